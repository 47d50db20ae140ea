"""Prompts of the benchmarks: twenty short ones, and a long one for prefill."""

from __future__ import annotations

SHORT = (
    "Explain in two sentences why the sky is blue.",
    "List three uses for an old bicycle tyre.",
    "Write a short poem about a lighthouse keeper.",
    "What is the capital of Portugal, and what is it known for?",
    "Give me a recipe for a simple tomato soup.",
    "How does a transistor switch a current?",
    "Translate 'good morning, my friend' into French and Spanish.",
    "Summarise the story of Romeo and Juliet in one paragraph.",
    "What is the difference between weather and climate?",
    "Describe the taste of a ripe mango to someone who never ate one.",
    "Why do cats purr?",
    "Write a polite email asking for a deadline to be moved by a week.",
    "Name five animals that live in the deep sea.",
    "What happens to a letter after it is dropped into a postbox?",
    "Count from one to ten in German.",
    "How would you teach a child to tie shoelaces?",
    "What is a prime number? Give the first eight.",
    "Tell a joke about a programmer and a tea pot.",
    "Which planets of the solar system have rings?",
    "Write the first line of a detective novel set in Venice.",
)

LONG = " ".join(
    f"On day {day} the expedition moved camp, counted its stores, wrote down the wind and the "
    f"height of the water, and sent two people ahead to look for a way through the reeds."
    for day in range(1, 60)
)
