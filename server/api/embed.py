"""Turns the page's files into C: embed.py OUTPUT FOLDER FILE…

Each file becomes an array, an entry of srv_assets and a GET route at its path below FOLDER;
index.html is "/". The ETag is a digest of the content, so a browser keeps a file exactly as long
as it stays the same.
"""
import hashlib
import pathlib
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".py": "text/x-python; charset=utf-8",
    ".ipynb": "application/x-ipynb+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}


def array(name, content):
    rows = [", ".join(map(str, content[i:i + 32])) for i in range(0, len(content), 32)]
    return f"static const unsigned char {name}[] = {{\n" + ",\n".join(rows or ["0"]) + "};\n"


def main(output, folder, *files):
    arrays, assets, routes = [], [], []
    for number, file in enumerate(sorted(map(pathlib.Path, files))):
        content = file.read_bytes()
        path = "/" + file.resolve().relative_to(pathlib.Path(folder).resolve()).as_posix()
        if path == "/index.html":
            path = "/"
        tag = hashlib.sha256(content).hexdigest()[:32]
        arrays.append(array(f"asset_{number}", content))
        assets.append(f'    {{"{path}", "{TYPES[file.suffix]}", "{tag}", asset_{number}, '
                      f'{len(content)}}},\n')
        routes.append(f'    {{"GET", "{path}", srv_assets_serve, SRV_ROUTE_OPEN}},\n')
    pathlib.Path(output).write_text(
        '/* Made by embed.py from the files of the page. */\n#include "server/api/assets.h"\n\n' +
        "\n".join(arrays) +
        "\nconst struct srv_asset srv_assets[] = {\n" + "".join(assets) + "    {0},\n};\n" +
        "\nconst struct srv_route srv_assets_routes[] = {\n" + "".join(routes) + "    {0},\n};\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
