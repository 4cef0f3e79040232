/*
 * take: what the reader can carry away: files, a link, a command.
 */

const byId = (id) => document.getElementById(id);

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/* A curl line that draws the same picture again. `body` is a request, or a job's resolved parameters. */
export function curlOf(body) {
  const { outputs, client_ref, ...rest } = body;
  const json = JSON.stringify(Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null)));
  return `curl -sS ${location.origin}/v1/samples -H 'Accept: image/png' -H 'Content-Type: application/json' \\\n`
    + `  -d ${quote(json)} -o picture.png`;
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

/* A button that copies text() and says so in its own place, at its own width. */
export function copies(id, text, announce) {
  const button = byId(id);
  const label = button.textContent;
  let timer = 0;
  button.addEventListener("click", async () => {
    button.style.minWidth = `${button.offsetWidth}px`;
    const said = (await copy(text())) ? "Copied" : "Not allowed";
    button.focus();
    button.textContent = said;
    announce(said);
    clearTimeout(timer);
    timer = setTimeout(() => { button.textContent = label; }, 1600);
  });
}
