# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session as it must be: a model that is changed at random together with the daemon's, and compared
with it. What a holder had under way when it was killed may have happened, or not, but never by half."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from client import Client, VarlinkError
from fds import (
    MAX_FDS, close, describe, eventfd, eventfds, is_same_file, is_tracked, memfd, state_memfd,
)
from link import LinkedProcess

FDS_PER_SESSION = 400


class Failure(Exception):
    pass


class Object:
    """An object of the model: what it is, and our own descriptors of it."""

    def __init__(self, id, kind, name, fds, **fields):
        self.id, self.kind, self.name, self.fds, self.fields = id, kind, name, fds, fields

    def describe(self, index, first=0, count=None):
        count = len(self.fds) - first if count is None else count
        fields = dict(self.fields)
        if self.kind == "eventfd":
            fields |= {"first": first, "count": count}
        return describe(self.kind, self.name, self.id, index, **fields)

    def key(self):
        return self.kind, self.name


def applied(objects, change):
    """The model after a store: like the daemon's, new ones last; a state anew is last too."""
    result = list(objects)
    for new in change:
        old = next((o for o in result if o.key() == new.key()), None)
        if old and old.kind == "state":
            result.remove(old)
        elif old:
            result[result.index(old)] = new
            continue
        result.append(new)
    return result


class Session:
    """One name, and all that may be true of it."""

    def __init__(self, worker, name):
        self.worker, self.name = worker, name
        self.random = worker.random
        self.process = None  # its holder
        self.state = "none"
        self.objects = []
        self.other = None  # what may be true instead: another list of objects
        self.may_be_gone = False
        self.next_id = 1
        self.history = []

    # Talking

    def ask(self, name, *arguments, fds=(), counts=(), may_die=False):
        """The answer and its descriptors. Dies by Failure if it is not what must be. None: the
        holder was killed before the answer (may_die) came."""
        self.history.append((name, str(arguments)[:200]))
        del self.history[:-40]
        self.process.start(name, self.name, *arguments, fds=fds)
        if may_die:
            time.sleep(self.random.choice((0, self.random.uniform(0, 0.004))))
            self.process.kill()
        got, fds = self.process.answer()
        if got is None:
            if not may_die:
                raise Failure(f"the holder process of {self.name} has ended")
            self.history.append(("killed, no answer",))
            return None
        answer, seen = got
        counts = counts or (len(self.objects),)
        for count in seen:
            if count not in counts:
                raise Failure(f"{self.name} is resumed with {count} objects, not {counts}")
        if isinstance(answer, Exception):
            raise answer
        self.history.append(("answer", str(answer)[:100]))
        return answer, fds

    # What is done

    def attach(self):
        """By a new process: makes it, or claims what the last one left."""
        self.process = LinkedProcess(self.worker.path)
        (start, count, repeated), _ = self.ask("attach")
        may_be_new = self.may_be_gone or not self.objects or (self.other is not None and not self.other)
        may_be_old = self.objects or self.other
        if repeated and start == "resumed":
            start = "claimed" if count else "new"
        if start == "new" and may_be_new:
            self.worker.sessions_made += 1
            self.settle([])
            self.state = "active"
        elif start == "claimed" and may_be_old:
            self.state = "restoring"
            self.verify()
        else:
            raise Failure(f"{self.name} is {start}, with {count} objects, after {self.state}")
        self.worker.acknowledged += 1

    def settle(self, objects):
        kept = {id(fd_owner) for fd_owner in objects}
        keep = {fd for o in objects for fd in o.fds}
        for old in [*self.objects, *(self.other or [])]:
            for fd in old.fds if id(old) not in kept else ():
                if fd not in keep and is_tracked(fd):
                    close(fd)
        self.objects, self.other, self.may_be_gone = objects, None, False

    def change(self, after, name, *arguments, fds=(), may_die=False, gone=False):
        """A call that makes the objects be `after`; killed before its answer, one of both."""
        self.other, self.may_be_gone = after, gone
        got = self.ask(
            name, *arguments, fds=fds, counts=(len(self.objects), len(after)), may_die=may_die
        )
        if got is not None:
            self.worker.acknowledged += 1
            self.settle(after)
        if may_die:
            self.died()
        return got is not None

    def died(self):
        self.process = None
        self.state = "orphaned"

    def may_die(self):
        return self.random.random() < 0.04

    def make(self):
        """A new object."""
        id, self.next_id = self.next_id, self.next_id + 1
        if self.random.random() < 0.25:
            return Object(id, "memory", f"ram{id}", [memfd(4096)])
        n = self.random.choice((1, 1, 2, 3, 8))
        fds = [eventfd(self.random.randrange(3)) for _ in range(n)]
        return Object(id, "eventfd", f"0000:0{id % 8}:00.0/{id}", fds, irqIndex=2, irqAction=0)

    def store(self, change, may_die=False, split=1):
        """In one message, or in several that count together."""
        messages, fds, part, used = [], [], [], 0
        for new, first in change:
            at = first
            while at < len(new.fds):
                n = min(len(new.fds) - at, MAX_FDS - used)
                part.append(new.describe(used, at, n))
                fds += new.fds[at : at + n]
                used, at = used + n, at + n
                if used == MAX_FDS or len(part) >= split > 1:
                    messages.append((part, used))
                    part, used = [], 0
        if part or not messages:
            messages.append((part, used))
        after = applied(self.objects, [new for new, _ in change])
        self.change(after, "store", messages, fds=fds, may_die=may_die)

    def do_store(self):
        change = [(self.make(), 0) for _ in range(self.random.choice((1, 1, 1, 2, 4)))]
        self.store(change, self.may_die())

    def do_batch(self):
        change = [(self.make(), 0) for _ in range(self.random.randrange(3, 9))]
        if self.random.random() < 0.2:
            id, self.next_id = self.next_id, self.next_id + 1
            fds = eventfds(self.random.randrange(100, 300))
            change.append((Object(id, "eventfd", f"many{id}", fds), 0))
        self.store(change, self.may_die(), split=2)

    def do_state(self):
        """Puts a named state, new or anew."""
        number = self.random.randrange(3)
        held = next((o for o in self.objects if o.key() == ("state", f"s{number}")), None)
        if held:
            id = held.id
        else:
            id, self.next_id = self.next_id, self.next_id + 1
        content = os.urandom(self.random.choice((1, 40, 3000)))
        new = Object(id, "state", f"s{number}", [state_memfd(content)])
        self.store([(new, 0)], self.may_die())

    def do_extend(self):
        """More of a run."""
        runs = [o for o in self.objects if o.kind == "eventfd"]
        if not runs:
            return self.do_store()
        old = self.random.choice(runs)
        more = eventfds(self.random.randrange(1, 4))
        new = Object(old.id, old.kind, old.name, old.fds + more, **old.fields)
        self.store([(new, len(old.fds))], self.may_die())

    def do_remove(self):
        if not self.objects:
            return self.do_store()
        gone = self.random.choice(self.objects)
        after = [o for o in self.objects if o is not gone]
        self.change(after, "remove", gone.kind, gone.name, may_die=self.may_die())

    def do_repeat(self):
        """What is held already, once more."""
        if not self.objects:
            return self.do_store()
        again = self.random.choice([o for o in self.objects if o.kind != "state"] or [self.make()])
        self.store([(again, 0)])

    def do_refused(self):
        """A batch that is refused at its end has no effect."""
        if not self.objects:
            return self.do_store()
        taken = self.random.choice(self.objects)
        good, bad = self.make(), Object(taken.id, "eventfd", "another", [eventfd()])
        messages = [([good.describe(0)], len(good.fds)), ([bad.describe(0)], 1)]
        try:
            self.ask("store", messages, fds=good.fds + bad.fds)
        except VarlinkError as error:
            if error.short != "AlreadyExists":
                raise
        else:
            raise Failure(f"{self.name}: an id that is taken was given twice")
        for fd in good.fds + bad.fds:
            close(fd)

    def do_commit(self):
        if self.ask("call", "Commit", {}, may_die=(may_die := self.may_die())) is not None:
            self.state = "active"
            self.worker.acknowledged += 1
        if may_die:
            self.died()

    def do_die(self):
        self.history.append(("die",))
        self.process.kill()
        self.died()

    def do_release(self):
        may_die = self.may_die()
        if self.change([], "release", may_die=may_die, gone=True):
            self.end_process()
            self.state = "none"

    def do_release_orphan(self):
        """As an operator does: by its name, over a connection of no session."""
        self.history.append(("release by name",))
        repeated = False
        while True:
            try:
                with Client(self.worker.path) as other:
                    other.call("Release", {"name": self.name})
                break
            except VarlinkError as error:
                may_be_gone = self.may_be_gone or not self.objects or self.other == []
                if error.short != "NoSuchSession" or not (repeated or may_be_gone):
                    raise
                break
            except (ConnectionError, BlockingIOError):
                repeated = True
        self.settle([])
        self.state = "none"
        self.worker.acknowledged += 1

    def end_process(self):
        if self.process:
            self.process.kill()
            self.process.channel.close()
        self.process = None

    # What must be

    def problem(self, objects, items, fds):
        """What distinguishes what was fetched from the model; None: nothing."""
        wanted = [(o.id, *o.key(), len(o.fds)) for o in objects]
        found, at = [], 0
        for item in items:
            count = item.get("count", 1)
            key = (item["id"], item["kind"], item["name"])
            if found and found[-1][:3] == key and item.get("first", 0) == found[-1][3]:
                found[-1] = (*key, found[-1][3] + count)
            elif item.get("first", 0) != 0:
                return f"{key} begins with number {item['first']}"
            else:
                found.append((*key, count))
            at += count
        if found != wanted:
            return f"there is {found}, not {wanted}"
        if at != len(fds):
            return f"{len(fds)} descriptors came for {at}"
        for number, (mine, theirs) in enumerate(zip((fd for o in objects for fd in o.fds), fds)):
            if not is_same_file(mine, theirs):
                return f"descriptor {number} is another open file"
        for item in items:
            held = next(o for o in objects if o.key() == (item["kind"], item["name"]))
            for field, value in held.fields.items():
                if item.get(field) != value:
                    return f"{item} has another {field} than {value}"
        return None

    def verify(self):
        """All of it, descriptor by descriptor; settles what was in doubt."""
        candidates = [self.objects] + ([self.other] if self.other is not None else [])
        (items, fds) = self.ask("fetch", counts=[len(c) for c in candidates])
        problems = [self.problem(objects, items, fds) for objects in candidates]
        for fd in fds:
            os.close(fd)
        if None not in problems:
            raise Failure(f"{self.name} is not what was acknowledged: {' nor '.join(problems)}")
        if self.other is not None:
            self.settle(candidates[problems.index(None)])
        self.worker.verified += 1

    def verify_state(self):
        (show, _), _ = self.ask("call", "Show", {"name": self.name})
        info = show["session"]
        if info["state"] != self.state or (info.get("holder") or {}).get("pid") != self.process.pid:
            raise Failure(f"{self.name}: {info}, not {self.state} held by {self.process.pid}")

    def step(self):
        if self.process is None:
            if self.state != "none" and self.random.random() < 0.15:
                return self.do_release_orphan()
            return self.attach()
        do, draw = None, self.random.random()
        size = sum(len(o.fds) for o in self.objects)
        if self.state == "restoring" and draw < 0.3:
            return self.do_commit()
        table = (
            (0.30 if size < FDS_PER_SESSION else 0, self.do_store),
            (0.08 if size < FDS_PER_SESSION else 0, self.do_batch),
            (0.15, self.do_state),
            (0.06, self.do_extend),
            (0.10, self.do_remove),
            (0.03, self.do_repeat),
            (0.03, self.do_refused),
            (0.04, self.do_die),
            (0.03, self.do_release),
            (0.13, self.verify),
            (0.05, self.verify_state),
        )
        weights, does = zip(*table)
        do = self.random.choices(does, weights)[0]
        return do()
