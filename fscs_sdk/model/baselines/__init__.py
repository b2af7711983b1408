"""The methods that the paper compares ASNet with, under the same iFSL inference, and ASNet with parts taken out."""
