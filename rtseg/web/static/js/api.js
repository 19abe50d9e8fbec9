// Requests to the API.

async function ask(path, options) {
  const response = await fetch(path, options);
  if (response.status === 401) {
    location.assign("/login");
  }
  const answer = await response.json();
  if (!response.ok) {
    throw new Error(answer.error ?? `HTTP ${response.status}`);
  }
  return answer;
}

const send = (method, path, values) =>
  ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(values) });

const pathOf = (source) => `/api/sources/${encodeURIComponent(source)}`;

export const details = (source, history) => ask(`${pathOf(source)}?history=${history}`);
export const recordings = async () => (await ask("/api/recordings")).recordings;
export const classAt = (source, [x, y]) => ask(`${pathOf(source)}/class?${new URLSearchParams({ x, y })}`);
export const change = (source, values) => send("PATCH", pathOf(source), values);
export const record = (source, on) => send("POST", `${pathOf(source)}/recording`, { on });
export const setRegions = (source, regions) => send("PUT", `${pathOf(source)}/regions`, { regions });
