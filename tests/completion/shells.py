# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real shells on terminals: what their line is after a key was pressed."""

import os
import pty
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMPLETIONS = os.path.join(ROOT, "completions")
TAB = "\t"
DUMP = "\x14"  # Ctrl-T: print the line between marks
ALL = "\x1b*"  # insert every candidate
CLEAR = "\x15"  # Ctrl-U


class Shell:
    """An interactive shell. Each answer is waited for by its mark: whoever runs the test ends what
    hangs."""

    command = ()
    setup = ()

    def __init__(self, env):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(self.command[0], self.command, {**os.environ, "TERM": "dumb", **env})
        self.output = ""
        self.write("\n".join((*self.setup, "")))
        self.write("echo rea''dy\n")
        self.wait_for(r"\nready\r?\n")

    def write(self, text):
        os.write(self.terminal, text.encode())

    def wait_for(self, pattern):
        while not (found := re.search(pattern, self.output)):
            try:
                self.output += os.read(self.terminal, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the shell has ended:\n{self.output}") from None
        self.output = self.output[found.end():]
        return found

    def type(self, text, key=TAB):
        """The line after a key."""
        self.write(CLEAR + text + key + DUMP)
        # A line that is too long for the terminal, and what redraws it, is no part of it.
        return self.wait_for(r"<<<([^\r\n]*)>>>")[1]

    def candidates(self, text):
        """Every word that the last one of text may become."""
        line = self.type(text, ALL)
        before, _, _ = text.rpartition(" ")
        assert line.startswith(before + " "), line
        return line[len(before) + 1:].split()

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


class Bash(Shell):
    """bash with what Debian's own setup loads."""

    command = ("bash", "--norc", "--noprofile", "-i")
    breaks_at_colons = True
    setup = (
        "set +o history; stty -echo; PS1=; PS2=; bind 'set enable-bracketed-paste off'",
        "bind -x '\"\\C-t\": printf \"\\n<<<%s>>>\\n\" \"$READLINE_LINE\"'",
        ". /usr/share/bash-completion/bash_completion",
        f". '{COMPLETIONS}/vfio-cprctl.bash'",
    )


    def candidates(self, text):
        """readline repeats only what is behind the last break of the word."""
        first, *rest = super().candidates(text) or [""]
        word = text.rpartition(" ")[2]
        kept = word[:word.rfind(":") + 1] if self.breaks_at_colons else ""
        return [first, *(kept + word for word in rest)]


class PlainBash(Bash):
    """bash without the package bash-completion."""

    setup = (*Bash.setup[:2], Bash.setup[3])


class BashWithoutColons(Bash):
    """bash of somebody who has taken the colon out of the word breaks."""

    breaks_at_colons = False
    setup = (*Bash.setup, "COMP_WORDBREAKS=${COMP_WORDBREAKS//:}")


class Zsh(Shell):
    command = ("zsh", "-f", "-i")
    setup = (
        "stty -echo; PS1=; PS2=; unsetopt prompt_cr prompt_sp; setopt no_beep",
        f"fpath=('{COMPLETIONS}' $fpath); autoload -U compinit; compinit -u -D",
        "dump() { print -r -- $'\\n'\"<<<$BUFFER>>>\" >$TTY }; zle -N dump; bindkey '^T' dump",
        "zle -C all-matches complete-word _generic; bindkey '^[*' all-matches; bindkey '^U' "
        "kill-whole-line",
        "zstyle ':completion:all-matches:*' insert yes",
        "zstyle ':completion:all-matches::::' completer _all_matches _complete",
    )


class Fish:
    """fish tells by itself what it would offer."""

    def __init__(self, env):
        self.env = {**os.environ, **env}

    def candidates(self, text):
        script = f"source '{COMPLETIONS}/vfio-cprctl.fish'; complete -C $argv[1]"
        done = subprocess.run(["fish", "--no-config", "-c", script, text], env=self.env, text=True,
                              capture_output=True, check=True)
        assert not done.stderr, done.stderr
        return [line.split("\t")[0] for line in done.stdout.splitlines()]

    def close(self):
        pass
