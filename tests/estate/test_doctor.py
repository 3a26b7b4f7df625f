"""The doctor on the sandbox: from addresses and credentials alone it finds what the sandbox's own configuration says."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tocsin.cli.application import app
from tocsin.config.envfile import parse_env_file
from tocsin.doctor.examining import examine
from tocsin.doctor.questions import Questions, questions_of
from tocsin_sandbox import environment
from tocsin_sandbox.session import Plan, Session
from tocsin_sandbox.wipe import DATABASE

pytestmark = pytest.mark.estate


def asked() -> Questions:
    questions = questions_of("wipe")
    assert questions is not None
    return questions


async def test_the_doctor_proposes_what_the_sandbox_is_configured_with_and_only_reads(tmp_path: Path) -> None:
    questions = asked()
    async with await Session(Plan(), lambda name: None).start() as session:
        estate = session.estate
        whole = environment.variables(estate)
        # A job that waits, so that its status can be seen.
        await estate.database.execute(
            "INSERT INTO jobs (queue, payload) VALUES ('reports.monthly', '{\"fault\": true}')", database=DATABASE
        )
        bare = {name: value for name, value in whole.items() if name not in questions.questions}
        # Keycloak's management port is another one, which an operator knows.
        bare["KEYCLOAK_MASTER_ISSUER"] = estate.keycloak_management.url
        findings = await examine(questions, bare)
        proposed = {proposal.variable: proposal.value for proposal in findings.proposals}
        assert findings.troubles == []
        assert proposed == {name: whole[name] for name in questions.questions}
        assert findings.indexes == []
        await estate.database.execute("DROP INDEX jobs_open", database=DATABASE)
        (index,) = (await examine(questions, bare)).indexes
        assert index == ("wipe-queues", "CREATE INDEX CONCURRENTLY ON jobs (queue, status, created_at);")
        env = tmp_path / "wipe.env"
        env.write_text(environment.render_env_file(bare))
        target = tmp_path / "proposal.env"
        await _write(env, target)
        written = parse_env_file(target.read_bytes(), "proposal.env", {})
        assert written == proposed


async def _write(env: Path, target: Path) -> None:
    command = (sys.executable, "-m", "tocsin.cli", "doctor", "--profile", "wipe", "--env-file", env, "--write", target)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    for expected in (0, 2):  # the second time the file is there already, and is left alone
        process = await asyncio.create_subprocess_exec(*map(str, command), env=clean)
        assert await process.wait() == expected


def test_without_a_database_the_doctor_says_so_and_fails() -> None:
    dsn = "postgresql://u:hush@127.0.0.1:1/wipe"
    result = CliRunner().invoke(app, ["doctor", "--profile", "wipe"], env={"TOCSIN_WIPE_DATABASE_DSN": dsn})
    assert result.exit_code == 1
    assert "the database of TOCSIN_WIPE_DATABASE_DSN: connection_refused" in result.output
    assert "hush" not in result.output


def test_a_profile_without_questions_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["doctor", "--profile", "nobody"])
    assert (result.exit_code, result.output) == (2, "tocsin doctor: there are no questions about the profile nobody\n")
