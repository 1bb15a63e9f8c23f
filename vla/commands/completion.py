"""`vla completion bash|zsh`: a script that asks `vla` itself what can come next, so that it never goes stale."""

from dataclasses import dataclass

from vla.commands.program import Action
from vla.conf.checks import require_choice

_BASH = """\
# Completion of vla for bash. Once:        eval "$(vla completion bash)"
# In every shell from now on:              vla completion bash > ~/.local/share/bash-completion/completions/vla
_vla() {
    local value
    COMPREPLY=()
    while IFS=$'\\t' read -r value _; do
        [[ -n $value ]] && COMPREPLY+=("$value")
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *. ]]; then compopt -o nospace; fi
}
complete -o default -F _vla vla
"""
_ZSH = """\
#compdef vla
# Completion of vla for zsh. Once:         eval "$(vla completion zsh)"
# In every shell from now on:              vla completion zsh > "${fpath[1]}/_vla"
_vla() {
    local line
    local -a found
    for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    if (( ${#found} )); then
        _describe -V vla found
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _vla ]]; then
    _vla "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _vla vla
fi
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH}


@dataclass(frozen=True)
class CompletionConfig:
    """Print the script that completes commands, flags and choices of `vla` in a shell."""

    shell: str = "bash"  # bash | zsh

    def __post_init__(self) -> None:
        require_choice(self, "shell", tuple(SCRIPTS))


def completion(config: CompletionConfig) -> int:
    """Print the script; returns the exit code."""
    print(SCRIPTS[config.shell], end="")
    return 0


PROGRAM = Action(CompletionConfig, completion, positional="shell", usage="[bash | zsh]")
