// Where a photo lies in a window: {scale, x, y}, screen = photo * scale + (x, y). Nothing here touches the page.

const MOST = 40;
const MARGIN = 24;

/** The whole photo in the middle. */
export function fit(photo, screen) {
  const room = { width: Math.max(1, screen.width - 2 * MARGIN), height: Math.max(1, screen.height - 2 * MARGIN) };
  const scale = Math.min(room.width / photo.width, room.height / photo.height, MOST);
  return { scale, x: (screen.width - photo.width * scale) / 2, y: (screen.height - photo.height * scale) / 2 };
}

/** Larger or smaller by a factor, while the photo's point under (x, y) stays there. */
export function zoomAt(view, x, y, factor, photo, screen) {
  const least = Math.min(fit(photo, screen).scale, 1) / 2;
  const scale = Math.min(MOST, Math.max(least, view.scale * factor));
  const ratio = scale / view.scale;
  return { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
}

/** Moved by (dx, dy), but never so far that the photo is out of sight. */
export function pan(view, dx, dy, photo, screen) {
  const within = (value, length, room) => Math.min(room - MARGIN, Math.max(MARGIN - length, value));
  return {
    scale: view.scale,
    x: within(view.x + dx, photo.width * view.scale, screen.width),
    y: within(view.y + dy, photo.height * view.scale, screen.height),
  };
}

export const toPhoto = (view, x, y) => ({ x: (x - view.x) / view.scale, y: (y - view.y) / view.scale });
export const toScreen = (view, x, y) => ({ x: x * view.scale + view.x, y: y * view.scale + view.y });
