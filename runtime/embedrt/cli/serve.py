"""``embedrt serve``: answer OpenAI's, TEI's and other clients over HTTP."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from embedrt.cli.bundles import add_bundle
from embedrt.errors import MissingExtraError
from embedrt.files import expand
from embedrt.loaded import LoadOptions

PREFIX = "EMBEDRT_"
MAX_WAITING_TOKENS = 100_000
CACHE_MB = 64
OF_KUBERNETES = "tcp://"  # it sets EMBEDRT_PORT so, for a Service that is called embedrt


def add_to(commands: Any) -> None:
    """Add the command's parser. An option's default is its environment variable, if it is set."""
    parser = commands.add_parser(
        "serve",
        help="serve a bundle over HTTP",
        description=__doc__,
        epilog="Each option can also be set by an environment variable: --max-body-mb by "
        "EMBEDRT_MAX_BODY_MB, and an API key by EMBEDRT_API_KEY. GET / shows a page for browsers.",
    )
    add_bundle(parser)

    def option(name: str, default: object, meaning: str, **kinds: Any) -> None:
        variable = PREFIX + name.removeprefix("--").replace("-", "_").upper()
        given = os.environ.get(variable)
        if given and not given.startswith(OF_KUBERNETES):
            # A type is applied to a default that is a string; choices alone are not.
            default = given
            kinds["type"] = _converter(
                variable, given, kinds.get("type", str), kinds.get("choices")
            )
        shown = " (%(default)s)" if default else ""
        parser.add_argument(name, default=default, help=meaning + shown, **kinds)

    option("--host", "127.0.0.1", "address to listen on; 0.0.0.0 for all")
    option("--port", 8080, "port; 0 takes a free one", type=int, metavar="N")
    option("--uds", None, "Unix socket in place of host and port", type=expand, metavar="PATH")
    option("--api-key-file", None, "file of API keys, one per line", type=expand, metavar="FILE")
    option("--threads", None, "cores to use", type=int, metavar="N")
    option("--cache-mb", CACHE_MB, "megabytes of the exact cache", type=float, metavar="N")
    option(
        "--max-waiting-tokens",
        MAX_WAITING_TOKENS,
        "most tokens in the queue; further requests get 429",
        type=int,
        metavar="N",
    )
    option("--max-body-mb", 16, "largest request body", type=float, metavar="N")
    option("--max-texts", 2048, "most texts per request", type=int, metavar="N")
    option("--timeout", 60, "seconds until a request gets 503", type=float, metavar="N")
    option("--read-timeout", 30, "seconds to receive a request", type=float, metavar="N")
    option("--grace", 30, "seconds to finish after SIGTERM", type=float, metavar="N")
    option("--served-name", None, "the model's name in responses", metavar="NAME")
    option(
        "--tiktoken", None, "BPE file, to accept OpenAI's token ids", type=expand, metavar="FILE"
    )
    option("--cors-origins", "", "allowed origins, separated by commas", metavar="ORIGINS")
    option("--root-path", "", "path prefix of a proxy", metavar="PATH")
    option("--log-format", "text", "log format", choices=("text", "json"))
    option("--log-level", "info", "debug logs each request", choices=("debug", "info", "error"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve a bundle until SIGTERM or SIGINT."""
    try:
        from embedrt.serve.lifecycle import ServerOptions, serve  # noqa: PLC0415
        from embedrt.serve.options import ServeOptions  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serve needs {error.name}; install it: pip install 'embedrt[serve]'"
        ) from error
    app = ServeOptions(
        api_keys=_read_keys(options.api_key_file),
        served_name=options.served_name,
        max_body_mb=options.max_body_mb,
        max_texts=options.max_texts,
        timeout=options.timeout,
        cors_origins=tuple(options.cors_origins.replace(",", " ").split()),
        tiktoken=options.tiktoken,
    )
    load = LoadOptions(
        threads=options.threads,
        cache_mb=options.cache_mb,
        max_waiting_tokens=options.max_waiting_tokens,
    )
    server = ServerOptions(
        host=options.host,
        port=options.port,
        uds=options.uds,
        root_path=options.root_path,
        read_timeout=options.read_timeout,
        grace=options.grace,
        log_format=options.log_format,
        log_level=options.log_level,
        load=load,
        app=app,
    )
    serve(options.bundle, server)


def _converter(
    variable: str, given: str, convert: Callable[[str], object], choices: Sequence[str] | None
) -> Callable[[str], object]:
    """Return a converter that names the environment variable if it is what cannot be converted."""

    def converted(text: str) -> object:
        try:
            value = convert(text)
        except ValueError:
            if text != given:
                raise
            kind = getattr(convert, "__name__", "")
            message = f"{variable} holds an invalid {kind} value: {text!r}"
            raise argparse.ArgumentTypeError(message) from None
        if choices is not None and text == given and value not in choices:
            expected = ", ".join(choices)
            raise argparse.ArgumentTypeError(f"{variable} is {text!r}; expected one of {expected}")
        return value

    return converted


def _read_keys(file: Path | None) -> tuple[str, ...]:
    """Return the keys in the file, and the key in the environment."""
    try:
        keys = file.read_text(encoding="utf-8-sig").split() if file is not None else []
    except UnicodeDecodeError as error:
        raise ValueError(f"--api-key-file {file} is not UTF-8 text: {error}") from None
    if file is not None and not keys:
        raise ValueError(f"--api-key-file {file} is empty; write a key to it")
    given = os.environ.get(f"{PREFIX}API_KEY")
    return (*keys, *([given.strip()] if given else []))  # a Secret made from a file ends in a line
