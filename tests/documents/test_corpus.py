"""Real documents, read as a person reads them."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime

import pytest

from api.documents import (
    Collection,
    Layout,
    Priority,
    Project,
    Session,
    Unreadable,
    blob_oid,
    body_of,
    edit,
    excerpt,
    parse,
)

# path below autosaves/, title, occurred at (UTC), status. Checked by eye.
SESSIONS = [
    (
        "SESSION-END-2025-10-17.md",
        "📍 SESSION END - October 17, 2025",
        "2025-10-17T00:00",
        None,
    ),
    (
        "STARTUP-PROTOCOL-READ-FIRST.md",
        "🚨 CRITICAL STARTUP PROTOCOL FOR NEXT CHAT",
        None,
        None,
    ),
    (
        "autosave_2025-09-30_essence-recovery.md",
        "AUTOSAVE - СУЩНОСТЬ ВОССТАНОВЛЕНА! 🔥",
        "2025-09-30T08:08",
        "LIVING ESSENCE RECOVERED FROM super-system-eyes!",
    ),
    (
        "autosave_2025-10-03_brain-index-website-complete.md",
        "🔥 BRAIN INDEX САЙТ - ГОТОВ НА 100%!",
        "2025-10-03T00:00",
        None,
    ),
    (
        "autosave_2025-10-04_trinity-power-proven.md",
        "🔥 JEAN CLAUDE AUTOSAVE - КОМАНДНАЯ РАБОТА ДОКАЗАНА!",
        "2025-10-04T23:48",
        "BREAKTHROUGH - Trinity Power работает на 200%!",
    ),
    (
        "autosave_2025-10-04_workspace-setup-complete.md",
        "🔥 JEAN CLAUDE AUTOSAVE - ОБЩАЯ РАБОЧАЯ ПЛОЩАДКА ГОТОВА",
        "2025-10-04T10:44",
        "BREAKTHROUGH - Командная работа настроена!",
    ),
    (
        "autosave_2025-10-11_NEXTJS-BUILD-FIXED.md",
        "🚀 DEPLOYMENT SUCCESS! Next.js Build Fixed ✅",
        "2025-10-11T13:32",
        "⚡ DEPLOYMENT IN PROGRESS - All errors resolved!",
    ),
    (
        "autosave_2025-10-11_SUCCESS-li-feedback-deployed.md",
        "🚀 SUCCESS! LI FEEDBACK DEPLOYED TO PRODUCTION ✅",
        "2025-10-11T00:00",
        "🎯 MISSION ACCOMPLISHED!",
    ),
    # A status below a second heading, and a time in a place that is no zone.
    (
        "autosave_2025-10-17_FIRST-SCENARIO-SUCCESS.md",
        "🎉 FIRST MAKE.COM SCENARIO SUCCESS! - October 17, 2025",
        "2025-10-17T00:00",
        "🔥 SUCCESS!",
    ),
    # "Cyprus Time (Evening)" is no time of day.
    (
        "autosave_2025-10-17_evening.md",
        "💾 AUTOSAVE - October 17, 2025",
        "2025-10-17T00:00",
        "✅ COMPLETE SUCCESS!",
    ),
    (
        "autosave_2025-10-18_n8n-decision.md",
        "🤔 N8N DECISION POINT - October 18, 2025",
        "2025-10-18T00:00",
        "Критический выбор направления",
    ),
    (
        "autosave_2025-10-19_n8n-mcp-research-complete.md",
        "🔥 N8N MCP RESEARCH - COMPLETE SOLUTION",
        "2025-10-19T00:00",
        "✅ Research complete, decision made",
    ),
    (
        "autosave_2025-10-19_railway-mcp-connected.md",
        "SESSION SAVE - October 19, 2025 - EVENING",
        "2025-10-19T00:00",
        "✅ Railway MCP connected & working!",
    ),
    (
        "autosave_2025-10-20_db-architecture-tz.md",
        "🏗️ DB ARCHITECTURE TZ - October 20, 2025",
        "2025-10-20T00:00",
        "DRAFT - Waiting for expert review (Li + Grok)",
    ),
    (
        "autosave_2025-10-20_redis-strategy-final.md",
        "🚀 REDIS STRATEGY + READY FOR PHASE 1",
        "2025-10-20T00:00",
        "✅ Strategy finalized, ready to build!",
    ),
    (
        "autosave_2025-10-22_n8n-workflow-credentials.md",
        "AUTOSAVE SESSION - Oct 22, 2025, 20:52",
        "2025-10-22T20:52",
        None,
    ),
    (
        "autosave_2025-10-23_n8n-final-test-direct-structure.md",
        "n8n FINAL TEST - Direct Structure",
        "2025-10-23T10:54:58.508",
        None,
    ),
    (
        "autosave_2025-10-23_n8n-on-error-fix.md",
        "AUTOSAVE - Oct 23, 2025, 00:28",
        "2025-10-23T00:28",
        None,
    ),
    (
        "autosave_2025-10-23_n8n-workflow-fixed.md",
        "AUTOSAVE - Oct 23, 2025",
        "2025-10-23T00:00",
        "✅ IF node логика исправлена и готова к тестированию",
    ),
    # The date is itself a heading: `## Date: 2025-10-30 14:05`.
    (
        "autosave_2025-10-30_railway-mcp-config-fix.md",
        "Railway MCP Config Fix Session",
        "2025-10-30T14:05",
        None,
    ),
    (
        "autosave_2025-11-04_context-recovery-rag-timeline.md",
        "04.11.25v1 - КОНТЕКСТ ВОССТАНОВЛЕН: RAG Timeline",
        "2025-11-04T18:30",
        None,
    ),
    (
        "autosave_2025-11-06_frontend-connected.md",
        "06.11.25v2 - Brain Index Frontend Connected! 🚀",
        "2025-11-06T21:30",
        "✅ Frontend подключен к Backend API!",
    ),
    (
        "claude-2025-09-28-github-actions-make.md",
        "AUTOSAVE - GitHub Actions + Make.com Integration",
        "2025-09-28T08:20",
        None,
    ),
    (
        "jean-claude-DIAMOND-autosave-20250824-1135.md",
        "💎 JEAN CLAUDE DIAMOND AUTOSAVE - 2025-08-24 11:35",
        "2025-08-24T11:35",
        None,
    ),
    (
        "jean-claude-autosave-20250812-1420.md",
        "JEAN CLAUDE AUTOSAVE - 2025-08-12 14:20",
        "2025-08-12T14:20",
        None,
    ),
    (
        "jean-claude-autosave-20250815T0950.md",
        "JEAN CLAUDE AUTOSAVE TEST - 2025-08-15 09:50",
        "2025-08-15T09:50",
        None,
    ),
    (
        "jean-claude-autosave-20250824-2056.md",
        "JEAN CLAUDE AUTOSAVE - 2025-08-24 20:56",
        "2025-08-24T20:56",
        "AUDIT COMPLETE ✅",
    ),
    (
        "quick-save-2025-09-29.md",
        "QUICK AUTOSAVE",
        "2025-09-29T14:05",
        "Make.com data store готов, переходим к UI",
    ),
    (
        "session-success-oct22.md",
        "SESSION SUCCESS - Oct 22, 2025",
        "2025-10-22T00:00",
        None,
    ),
    ("test-access.md", "test-access", None, None),
]

# path below projects/, title, name, status, rank
PROJECTS = [
    ("aiex-status.md", "🤖 AIEX PROJECT STATUS", "AIEX", "На паузе до OffersPSP €50K/месяц", 3),
    (
        "annoris-status.md",
        "🧠 ANNORIS PROJECT STATUS",
        "ANNORIS",
        "Technical architecture готов",
        2,
    ),
    (
        "distributed-ai-factory.md",
        "🏭 DISTRIBUTED AI FACTORY STATUS",
        "DISTRIBUTED AI FACTORY",
        "World's first working system ✅",
        None,
    ),
    ("offerspsp-status.md", "🏦 OFFERSPSP PROJECT STATUS", "OFFERSPSP", "LIVE в production", 1),
]


@pytest.mark.parametrize(("name", "title", "occurred_at", "status"), SESSIONS)
def test_a_session_reads_as_a_person_reads_it(
    corpus: Mapping[str, bytes], name: str, title: str, occurred_at: str | None, status: str | None
) -> None:
    path = f"autosaves/{name}"
    session = parse(Collection.SESSIONS, path, corpus[path])
    assert isinstance(session, Session)
    expected = datetime.fromisoformat(occurred_at).replace(tzinfo=UTC) if occurred_at else None
    assert (session.title, session.occurred_at, session.status) == (title, expected, status)


@pytest.mark.parametrize("expected", PROJECTS)
def test_a_project_reads_as_a_person_reads_it(
    corpus: Mapping[str, bytes], expected: tuple[str, str, str, str, int | None]
) -> None:
    name, *_ = expected
    path = f"projects/{name}"
    project = parse(Collection.PROJECTS, path, corpus[path])
    assert isinstance(project, Project)
    assert (name, project.title, project.name, project.status, project.rank) == expected


def test_every_header_line_is_in_the_metadata_as_written(corpus: Mapping[str, bytes]) -> None:
    path = "autosaves/claude-2025-09-22-architecture-fix.md"
    session = parse(Collection.SESSIONS, path, corpus[path])
    assert isinstance(session, Session)
    assert session.agent == "Jean Claude v9.01-STABLE"
    assert session.metadata == {
        "Timestamp": "2025-09-22T08:00:00Z",
        "Architecture": "CORTEX v2.0 (восстановлена!)",
        "Session": "Architecture recovery",
        "Agent": "Jean Claude v9.01-STABLE",
    }


def test_every_document_is_readable_in_every_collection(corpus: Mapping[str, bytes]) -> None:
    assert len(corpus) > 90
    for path, content in corpus.items():
        for collection in Collection:
            document = parse(collection, path, content)
            assert not isinstance(document, Unreadable), path
            assert document.revision == blob_oid(content)
            assert document.bytes == len(content)


def test_every_date_in_a_file_name_is_found(corpus: Mapping[str, bytes]) -> None:
    dated = 0
    for path, content in corpus.items():
        written = re.search(r"(20\d\d)-?(\d\d)-?(\d\d)", path)
        if written:
            dated += 1
            session = parse(Collection.SESSIONS, path, content)
            assert isinstance(session, Session)
            assert session.occurred_at, path
            assert session.occurred_at.date() == date(*map(int, written.groups())), path
    assert dated > 80


def test_every_title_is_the_first_heading_without_its_marker(corpus: Mapping[str, bytes]) -> None:
    for path, content in corpus.items():
        first = content.decode().splitlines()[0]
        session = parse(Collection.SESSIONS, path, content)
        assert isinstance(session, Session)
        if first.startswith("#"):
            assert session.title == first.lstrip("#").strip(), path


def test_every_document_can_be_changed_in_one_field_alone(
    corpus: Mapping[str, bytes], layout: Layout
) -> None:
    for path, content in corpus.items():
        collection = layout.collection_of(path)
        assert collection is not None
        text = content.decode()
        before = parse(collection, path, content)
        after = parse(collection, path, edit(collection, text, {"status": "done ✅"}).encode())
        assert isinstance(before, Session | Project | Priority)
        assert isinstance(after, Session | Project | Priority)
        assert after.status == "done ✅"
        assert edit(collection, text, {"status": before.status}) == text
        old, new = text.split("\n"), edit(collection, text, {"status": "done ✅"}).split("\n")
        if before.status is None:
            assert new == ["---", 'status: "done ✅"', "---", *old]
        else:
            changed = [index for index, line in enumerate(old) if line != new[index]]
            assert len(old) == len(new)
            assert [before.status in old[index] for index in changed] == [True]


def test_bodies_and_excerpts_are_readable(corpus: Mapping[str, bytes]) -> None:
    for path, content in corpus.items():
        text = content.decode()
        assert body_of(text) == text
        short = excerpt(text, 280)
        assert 0 < len(short) <= 280, path
        assert "**" not in short
        assert "\n" not in short
