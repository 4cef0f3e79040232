/*
 * take: what the reader can carry away: files, a link, and the same picture as a command, a program or plain JSON.
 */
import { load } from "./api.js";
import { byId } from "./dom.js";
import { currentKey } from "./key.js";

/* What to send to draw the same again. `body` is a request, or a job's resolved parameters. */
function sent(body) {
  const { outputs, client_ref, ...rest } = body;
  return Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null));
}

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/* The key itself is never copied: whoever gets the text has their own. */
export function curlOf(body) {
  const key = currentKey() ? " -H \"Authorization: Bearer $ELS_API_KEY\"" : "";
  return `curl -sS ${location.origin}/v1/samples -H 'Accept: image/png' -H 'Content-Type: application/json'${key} \\\n`
    + `  -d ${quote(JSON.stringify(sent(body)))} -o picture.png\n`;
}

export function jsonOf(body) {
  return `${JSON.stringify(sent(body), null, 2)}\n`;
}

/* Standard library only, but for what makes an array of the answer. */
export function pythonOf(body) {
  const literal = JSON.stringify(sent(body), null, 4).replace(/: (true|false)/g, (_, word) => (word === "true" ? ": True" : ": False"));
  const key = currentKey() ? ",\n             \"Authorization\": f\"Bearer {os.environ['ELS_API_KEY']}\"" : "";
  return `import io, json, ${key ? "os, " : ""}urllib.request
import numpy as np

params = ${literal}

request = urllib.request.Request(
    "${location.origin}/v1/samples",
    data=json.dumps(params).encode(),
    headers={"Content-Type": "application/json", "Accept": "application/x-npy"${key}})
with urllib.request.urlopen(request) as answer:
    images = np.load(io.BytesIO(answer.read()))  # float32 [N, C, H, W] in [-1, 1]
print(images.shape, images.min(), images.max())
`;
}

/* Points the download links at picture `image` of a finished job, or takes them away (null). */
export function offer(job, image) {
  const links = job && {
    "get-png": [`/v1/jobs/${job.id}/images/${image}`, "png"],
    "get-large": [`/v1/jobs/${job.id}/images/${image}?zoom=16`, "png"],
    "get-npy": [`/v1/jobs/${job.id}/tensors?name=images`, "npy"],
    "get-tensors": [`/v1/jobs/${job.id}/tensors`, "safetensors"],
  };
  for (const link of document.querySelectorAll("[data-needs-result]")) {
    if (!links) {
      link.removeAttribute("href");
      link.setAttribute("aria-disabled", "true");
      link.setAttribute("role", "link");
      continue;
    }
    const [url, extension] = links[link.id];
    const { bank, machine } = job.params;
    link.href = url;
    link.download = `els-${bank}-${machine}-${job.seeds[image] ?? job.params.seed}.${extension}`;
    link.removeAttribute("aria-disabled");
    link.removeAttribute("role");
  }
}

/* A link cannot carry a key: with one, the page fetches the file and hands it over. */
export function watchDownloads(complain) {
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[download][href]");
    if (!link || !currentKey() || link.protocol === "blob:")
      return;
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await load(link.href));
      Object.assign(document.createElement("a"), { href: url, download: link.download }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (problem) {
      complain(problem, "job");
    }
  });
}

/* Copies; browsers without clipboard access (plain http on another host) get the old way. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/* A button that copies text() and says so in its own place. */
export function copies(id, text, announce) {
  const button = byId(id);
  const label = button.textContent;
  let timer = 0;
  button.addEventListener("click", async () => {
    const said = (await copy(text())) ? "Copied" : "Not allowed";
    button.focus();
    button.textContent = said;
    announce(said);
    clearTimeout(timer);
    timer = setTimeout(() => { button.textContent = label; }, 1600);
  });
}
