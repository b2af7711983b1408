#!/bin/bash
# A folder of photos on 64 nodes of a SLURM cluster: one shard each, and at the end one journal. PHOTOS, SUPPORTS and OUT
# lie on storage that all nodes see. A node that dies: the same command again, its shard goes on where it stopped.
#   sbatch --export=ALL,PHOTOS=/data/photos,SUPPORTS=/data/pets.safetensors,OUT=/data/results examples/cluster/slurm.sh
#   sbatch --dependency=afterany:JOB --wrap='fscs merge /data/results'
#SBATCH --job-name=fscs
#SBATCH --array=1-64
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --requeue
set -eu
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
exec fscs predict "$PHOTOS" --supports "$SUPPORTS" --out "$OUT" --formats mask,csv \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
