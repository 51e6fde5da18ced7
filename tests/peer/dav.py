"""A WebDAV server of this machine: nginx."""

import os
import subprocess

from bucket import free_port, wait_for_port

CONFIG = """
{user} daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
events {{ worker_connections 256; }}
http {{
    access_log off; client_max_body_size 0; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location / {{ dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS; }}
    }}
}}
"""


class Dav:
    """Serves a folder until it is closed."""

    def __init__(self, nginx, folder):
        (folder / "files").mkdir(parents=True)
        port = free_port()
        user = "user root;" if os.getuid() == 0 else ""
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(user=user, folder=folder, port=port))
        self.url = f"webdav://127.0.0.1:{port}/db"
        command = [str(word) for word in (nginx, "-c", config, "-e", "stderr")]
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()
