"""What is public, and what is imported when."""

from __future__ import annotations

import inspect

from catalyst_seen import feeds

from ..support.scripts import Run


def test_all_is_sorted() -> None:
    """__all__ is sorted, and everything in it says what it promises."""
    assert sorted(feeds.__all__) == feeds.__all__
    for name in feeds.__all__:
        member = getattr(feeds, name)
        if inspect.isclass(member) or inspect.isfunction(member):
            assert inspect.getdoc(member), name


def test_package_imports_no_feeds(run_script: Run) -> None:
    """The package imports neither feeds nor keys, and keys no other package."""
    script = """
        import sys
        import catalyst_seen
        print(sorted(name for name in sys.modules if "seen.feeds" in name))
        print(sorted(name for name in sys.modules if "seen.keys" in name))
        before = set(sys.modules)
        import catalyst_seen.keys
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - sys.stdlib_module_names))
    """
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("[]\n[]\n['catalyst_seen']\n", "")
