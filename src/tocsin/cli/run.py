"""``tocsin run``: the daemon."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer
import uvloop

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, sources
from tocsin.config import Registry, load, process_settings
from tocsin.config.process import parse_listen
from tocsin.daemon import Daemon, Loading
from tocsin.logs import configure_logs


def run(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to serve; TOCSIN_LISTEN, else 127.0.0.1:9760.")
    ] = None,
) -> None:
    """Run the daemon: probe all the time, serve metrics, status page and runbook pages.

    Reloads on SIGHUP, on `POST /-/reload`, and when the files change. Other settings of the process are `TOCSIN_*`
    variables: `TOCSIN_STATE_DIR`, `TOCSIN_LOG_LEVEL`, `TOCSIN_LOG_FORMAT`, `TOCSIN_WEB_CONFIG_FILE`, `TOCSIN_VANTAGE`,
    `TOCSIN_RUNBOOKS_DIR`.

    Examples: `tocsin run --profile wipe --env-file .env`, `tocsin run -c tocsin.yaml --listen :9760`
    """
    settings = process_settings()
    if listen is not None:
        try:
            settings = settings.model_copy(update={"listen": parse_listen(listen)})
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    configure_logs(settings.log_level, settings.log_format)
    wanted = sources(config, profile, env_file, settings.vantage)
    kinds = Registry.discover()
    loading = Loading(lambda: load(wanted, kinds), kinds)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if not runner.run(Daemon(loading, settings).serve()):
                # The runner would wait for it for ever. State is closed, the log is written.
                os._exit(0)
    except OSError as error:
        typer.echo(f"tocsin run: cannot listen on {settings.listen}: {error.strerror or error}", err=True)
        raise typer.Exit(2) from None
