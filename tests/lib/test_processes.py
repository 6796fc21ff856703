# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processes that tests tell what to do."""

import os
import unittest

from fds import close, close_all, eventfds, identity, is_same_file
from process import Process


class Told(Process):
    def do_give_back(self, fds, count):
        return [identity(fd) for fd in fds], fds[:count]

    def do_open(self, _fds):
        return sorted(int(name) for name in os.listdir("/proc/self/fd")), []

    def do_fail(self, _fds, error):
        raise error


class Processes(unittest.TestCase):
    def setUp(self):
        self.addCleanup(close_all)
        self.process = Told()
        self.addCleanup(self.process.kill)

    def do(self, *words, **options):
        self.process.start(*words, **options)
        return self.process.answer()

    def test_any_number_of_descriptors_goes_there_and_back_in_order(self):
        fds = eventfds(600)
        for sent, count in ((0, 0), (253, 253), (254, 1), (600, 599)):
            names, back = self.do("give_back", count, fds=fds[:sent])
            self.assertEqual(names, [identity(fd) for fd in fds[:sent]])
            self.assertEqual(len(back), count)
            self.assertTrue(all(map(is_same_file, fds, back)))
            for fd in back:
                os.close(fd)

    def test_it_has_nothing_of_the_tests_and_keeps_nothing_that_it_was_sent(self):
        fds = eventfds(20)
        before, _ = self.do("open")
        self.assertLessEqual(len(before), 5)  # standard ones, the channel, and its look
        self.do("give_back", 0, fds=fds)
        self.assertEqual(self.do("open")[0], before)
        for fd in fds:
            close(fd)

    def test_an_error_is_an_answer_and_anything_else_a_failure_with_its_place(self):
        error, _ = self.do("fail", FileNotFoundError(2, "gone"))
        self.assertIsInstance(error, FileNotFoundError)
        failure, _ = self.do("fail", ValueError("wrong"))
        self.assertIsInstance(failure, AssertionError)
        self.assertIn("do_fail", str(failure))

    def test_one_that_is_dead_answers_nothing(self):
        self.process.kill()
        self.process.kill()
        self.assertEqual(self.process.answer(), (None, []))
