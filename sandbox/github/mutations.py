"""The root of mutations: commits, and the creation, moving and deletion of branches."""

from dataclasses import dataclass
from typing import ClassVar, TypedDict

import pygit2

from sandbox.github import catalogue, commits
from sandbox.github.call import Call
from sandbox.github.hosting import from_global_id
from sandbox.github.queries import RefNode, find_repository
from sandbox.github.repository import RefMoved


class CreateRef(TypedDict, total=False):
    repository_id: str
    name: str
    oid: str
    client_mutation_id: str | None


class UpdateRef(TypedDict, total=False):
    ref_id: str
    oid: str
    force: bool | None
    client_mutation_id: str | None


class DeleteRef(TypedDict, total=False):
    ref_id: str
    client_mutation_id: str | None


@dataclass
class CreateRefPayload:
    type_name: ClassVar = "CreateRefPayload"
    ref: RefNode
    client_mutation_id: str | None


@dataclass
class UpdateRefPayload:
    type_name: ClassVar = "UpdateRefPayload"
    ref: RefNode
    client_mutation_id: str | None


@dataclass
class DeleteRefPayload:
    type_name: ClassVar = "DeleteRefPayload"
    client_mutation_id: str | None


class MutationRoot:
    type_name: ClassVar = "Mutation"

    async def create_commit_on_branch(
        self,
        call: Call,
        input: commits.Input,  # noqa: A002 - GitHub's argument
    ) -> commits.CommitPayload:
        return await commits.create_commit_on_branch(call, input)

    def create_ref(self, call: Call, input: CreateRef) -> CreateRefPayload:  # noqa: A002
        id_, name, oid = input["repository_id"], input["name"], input["oid"]
        found = from_global_id(id_)
        if found is None or found[0] != "repository" or not call.hosting.answers_to(found[1]):
            raise catalogue.NODE_NOT_FOUND.error(id=id_)
        find_repository(call, found[1])
        commits.check_may_write(call)
        if not call.repository.is_commit(oid):
            raise catalogue.NODE_NOT_FOUND.error(id=oid)
        try:
            call.repository.create_ref(name, oid)
        except RefMoved as error:
            raise catalogue.REF_EXISTS.error(ref=name) from error
        except (ValueError, pygit2.GitError) as error:
            raise catalogue.PATH_MALFORMED.error(path=name) from error
        call.hosting.moved(name, oid, call.identity)
        return CreateRefPayload(RefNode(name, oid, call.hosting), input.get("client_mutation_id"))

    async def update_ref(self, call: Call, input: UpdateRef) -> UpdateRefPayload:  # noqa: A002
        name, oid = _known_ref(call, input["ref_id"]), input["oid"]
        before = call.repository.ref(name)
        if before is None or not call.repository.is_commit(oid):
            raise catalogue.NODE_NOT_FOUND.error(id=input["ref_id"])
        if not input.get("force") and not call.repository.reaches(oid, before):
            raise catalogue.REF_NOT_FAST_FORWARD.error()
        await commits.swap(call, name, oid, before)
        return UpdateRefPayload(RefNode(name, oid, call.hosting), input.get("client_mutation_id"))

    def delete_ref(self, call: Call, input: DeleteRef) -> DeleteRefPayload:  # noqa: A002
        name = _known_ref(call, input["ref_id"])
        call.repository.delete_ref(name)
        call.hosting.observe()
        return DeleteRefPayload(input.get("client_mutation_id"))


def _known_ref(call: Call, id_: str) -> str:
    found = from_global_id(id_)
    if found is None or found[0] != "ref" or call.repository.ref(found[1]) is None:
        raise catalogue.NODE_NOT_FOUND.error(id=id_)
    find_repository(call, call.hosting.name)
    commits.check_may_write(call)
    return found[1]
