"""Where evidence comes from: the user, a model, a config. Each is read once into a speaker.

Nothing is imported here: the table of facts about configs, or the reader of models, cost a command
that does not need them a tenth of its start-up.
"""
