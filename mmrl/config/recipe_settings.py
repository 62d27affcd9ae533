"""What a run takes over from its data recipe: the rewards and the prompt mode, where the config names none.

    data: {recipe: scenes}      # no `rewards`, no `prompt.mode`: the recipe's; overrides change them further

Only one or the other counts: a config with `rewards` of its own gets none of the recipe's.
"""

from __future__ import annotations

from pathlib import Path

from mmrl.config.schema import Config
from mmrl.config.tree import Node, Origin, find, merge
from mmrl.config.yaml_file import parse_yaml
from mmrl.errors import ConfigError


def lay_over_recipe(root: Node, recipe: str) -> Node:
    """`root` on top of the recipe's settings. A recipe that is not sound gives none: the checks say what is wrong."""
    from mmrl.data.recipe_file import find_recipe, load_recipe

    try:
        load_recipe(recipe)
        path = find_recipe(recipe)
    except ConfigError:
        return root
    written, _ = parse_yaml(path.read_text(encoding="utf-8-sig"), Origin(file=path))
    settings: dict[str, Node] = {}
    rewards, prompt = find(root, ("rewards",)), find(root, ("prompt",))
    if rewards is None or rewards.value is None:  # `rewards: null` gives inherited ones back to the recipe
        settings |= _named(written, "rewards")
    if prompt is None or (isinstance(prompt.value, dict) and "mode" not in prompt.value):
        settings |= _named(written, "prompt")
    if not settings:
        return root
    assert isinstance(root.value, dict)
    given = {key: node for key, node in root.value.items() if not (key in settings and node.value is None)}
    origins = {key: node.origin for key, node in settings.items()}
    below = Node(value=settings, origin=root.origin, key_origins=origins)
    return merge(below, Node(value=given, origin=root.origin, key_origins=root.key_origins))


def settings_in_words(config: Config) -> str:
    """Whose rewards and prompt mode a run has, where its data are built from a recipe; else an empty text."""
    from mmrl.config.schema import RewardConfig
    from mmrl.data.recipe_file import load_recipe

    if config.data.recipe is None:
        return ""
    recipe = load_recipe(config.data.recipe)[0]
    name = Path(config.data.recipe).stem
    theirs = {
        task: tuple(RewardConfig.model_validate(reward) for reward in rewards)
        for task, rewards in recipe.rewards.items()
    }
    mode = config.prompt.mode if recipe.prompt is None else recipe.prompt.mode
    own = [
        text
        for text, differs in (
            ("rewards", bool(theirs) and theirs != config.rewards),
            (f"prompt mode ({config.prompt.mode}, not {mode})", mode != config.prompt.mode),
        )
        if differs
    ]
    if own:
        return f"{' and '.join(own)}: the config's own, not those of the recipe {name}"
    return f"rewards and prompt mode ({mode}): as the recipe {name} says" if theirs else ""


def _named(recipe: Node, key: str) -> dict[str, Node]:
    node = find(recipe, (key,))
    return {} if node is None or not node.value else {key: node}
