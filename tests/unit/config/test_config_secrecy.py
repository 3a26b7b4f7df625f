"""Whatever is wrong, wherever a secret was put: no message holds it."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.config.fake_kinds import Log, Web
from tocsin.config import ConfigError, Registry, Sources, load
from tocsin.config.declaration import Declaration

SECRET = "hunter2-Correct.Horse"
KEYS = sorted({*Declaration.model_fields, *Web.Settings.model_fields, "pasword"} - {"kind"})
LEAVES = st.sampled_from(["${SECRET}", "x${SECRET}y", "${file:${FILE}}", "${NOPE:-${SECRET}}", 5, True, None, "a"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), st.booleans())
def test_no_message_holds_the_value_of_a_variable_or_a_file(tmp_path: Path, probe: dict[str, object], whole: bool):
    path, file = tmp_path / "tocsin.yaml", tmp_path / "key"
    file.write_text(SECRET)
    base = {} if whole else {"kind": "web", "system": "s", "incident": "i", "url": "u"}
    path.write_text(json.dumps({"probes": {"a": {**base, **probe}}, "defaults": probe if whole else {}}))
    sources = Sources(path, environ={"SECRET": SECRET, "FILE": str(file)})
    try:
        configuration = load(sources, Registry({"web": Web, "log": Log}))
    except ConfigError as error:
        shown = f"{error} {error!r} {error.problems!r} {error.__context__!r}"
    else:
        shown = repr(configuration.files)
    assert SECRET not in shown


@pytest.mark.parametrize(
    "written", ["*hunter2", "!hunter2", "@hunter2", "%hunter2", "'hunter2", "[hunter2", "a: hunter2"]
)
def test_a_password_that_yaml_trips_over_is_not_quoted_back(written: str, tmp_path: Path):
    path = tmp_path / "tocsin.yaml"
    path.write_text(f"probes:\n  a:\n    kind: web\n    password: {written}\n")
    with pytest.raises(ConfigError) as caught:
        load(Sources(path, environ={}), Registry({"web": Web}))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__context__)
