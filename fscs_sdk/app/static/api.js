// What the server is asked, and what it tells.

async function request(method, path, { query = {}, body, json } = {}) {
  const parameters = new URLSearchParams(query).toString();
  let response;
  try {
    response = await fetch(parameters ? `${path}?${parameters}` : path, {
      method,
      body: json === undefined ? body : JSON.stringify(json),
      headers: json === undefined ? {} : { "Content-Type": "application/json" },
    });
  } catch {
    throw new Error("the server does not answer; is 'fscs app' still running in the terminal?");
  }
  if (response.ok) return response;
  let sentence = `the server answered ${response.status}`;
  try {
    sentence = (await response.json()).error;
  } catch {
    // not JSON: the status must do
  }
  const error = new Error(sentence);
  error.status = response.status;
  throw error;
}

const photo = (id, rest = "") => `/api/photos/${encodeURIComponent(id)}${rest}`;
const json = async (response) => (await response).json();

export const api = {
  workspace: () => json(request("GET", "/api/workspace")),
  upload: (file) => json(request("POST", "/api/photos", { query: { name: file.name }, body: file })),
  demo: () => request("POST", "/api/demo"),
  pick: (ids) => request("POST", "/api/folder", { json: { ids } }),
  remove: (id) => request("DELETE", photo(id)),
  describe: (id) => json(request("GET", photo(id))),
  async mask(id, name, from) {
    const response = await request("GET", photo(id, "/mask"), { query: { class: name, from } });
    return { runs: new Uint32Array(await response.arrayBuffer()), version: response.headers.get("X-Version") ?? "" };
  },
  keepDraft: (id, name, version, runs) =>
    json(request("PUT", photo(id, "/draft"), { query: { class: name, version }, body: runs })),
  dropDraft: (id, name) => request("DELETE", photo(id, "/draft"), { query: { class: name } }),
  setShot: (id, name, runs) => request("PUT", photo(id, "/shot"), { query: { class: name }, body: runs }),
  setTag: (id, name) => request("PUT", photo(id, "/shot"), { query: { class: name } }),
  removeShot: (id, name) => request("DELETE", photo(id, "/shot"), { query: { class: name } }),
  setNegative: (id, negative) => request(negative ? "PUT" : "DELETE", photo(id, "/negative")),
  confirm: (id, right) => request(right ? "PUT" : "DELETE", photo(id, "/confirmed")),
  async suggest(id, asked) {
    const response = await request("POST", photo(id, "/suggestion"), { json: asked });
    return new Uint32Array(await response.arrayBuffer());
  },
  async annotation(id, name, file) {
    const query = { class: name, name: file.name };
    const response = await request("POST", photo(id, "/annotation"), { query, body: file });
    return new Uint32Array(await response.arrayBuffer());
  },
  annotations: (file) => json(request("POST", "/api/annotations", { query: { name: file.name }, body: file })),
  changeClass: (name, change) => request("PATCH", "/api/classes", { json: { name, ...change } }),
  changeSettings: (changes) => request("PATCH", "/api/settings", { json: changes }),
  run: (run) => request("PATCH", "/api/asking", { json: { run } }),
  commands: (formats) => json(request("GET", "/take/commands", { query: { formats: formats.join(",") } })),
  download: async (path) => (await request("GET", path)).blob(),
};

export const links = {
  view: (id, side) => photo(id, `/view?side=${side}`),
  areas: (id, side, version) => photo(id, `/areas?side=${side}&v=${encodeURIComponent(version)}`),
  maps: (id, version) => photo(id, `/maps?v=${encodeURIComponent(version)}`),
};

/**
 * Calls `tell(event)` for everything that happens, and `again()` whenever the connection is there anew. A window that
 * nobody sees does not listen: browsers have but six connections for all windows of a server.
 */
export function listen(tell, again, lost) {
  let source = null;
  const open = () => {
    source = new EventSource("/api/events");
    source.addEventListener("open", again);
    source.addEventListener("error", lost);
    source.addEventListener("message", (message) => tell(JSON.parse(message.data)));
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else if (!source || source.readyState === EventSource.CLOSED) open();
  });
  open();
}
