"""The words of the page, in its languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "es"]

STATES: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "loading": "Loading the model",
        "ready": "Ready",
        "sleeping": "Asleep; the next request loads the model",
        "waking": "Waking: loading the model",
        "restarting": "Restarting",
        "draining": "Stopping",
        "failed": "No model to answer with",
        "unreachable": "The server cannot be reached",
    },
    "es": {
        "loading": "Cargando el modelo",
        "ready": "Listo",
        "sleeping": "En reposo; la próxima petición carga el modelo",
        "waking": "Despertando: cargando el modelo",
        "restarting": "Reiniciando",
        "draining": "Apagándose",
        "failed": "No hay modelo con el que responder",
        "unreachable": "No se puede conectar con el servidor",
    },
}

LIVE: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "copy": "Copy",
        "copied": "Copied",
        "of": "%1 of %2",
        "tokens": "%1 tokens",
        "speed": "%1 tokens/s",
        "idle": "idle",
    },
    "es": {
        "copy": "Copiar",
        "copied": "Copiado",
        "of": "%1 de %2",
        "tokens": "%1 tokens",
        "speed": "%1 tokens/s",
        "idle": "en reposo",
    },
}
"""What the page's script writes."""

FIXED: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "about": "A language model on a computer of your own, for programs that speak OpenAI's or "
        "Anthropic's API. What you send it stays there.",
        "lines": "Bring a small model and serve it",
        "model_word": "Model",
        "speed_word": "Speed now",
        "running_word": "Running",
        "queued_word": "Waiting",
        "context_word": "Context",
        "ask": "Ask it something",
        "needs_key": "This server wants an API key: put yours into the variable LLM_API_KEY first.",
        "chat": "Chat with it",
        "dashboard": "A chat page is in the folder dashboard of the sources; it "
        "needs Node 18 or newer. It opens at http://127.0.0.1:3000.",
        "terminal": "In a terminal",
        "more": "For programs",
        "health": "state, model and queue",
        "openapi": "every endpoint and field",
        "models": "the model and its sampling",
        "metrics": "figures for Prometheus",
        "other": "Español",
    },
    "es": {
        "about": "Un modelo de lenguaje en tu propio equipo, para programas que usan la API de "
        "OpenAI o la de Anthropic. Lo que le envías no sale de ahí.",
        "lines": "Descarga un modelo pequeño y arranca el servidor",
        "model_word": "Modelo",
        "speed_word": "Velocidad actual",
        "running_word": "En curso",
        "queued_word": "En espera",
        "context_word": "Contexto",
        "ask": "Pregúntale algo",
        "needs_key": "Este servidor pide una clave de API: guarda antes la tuya en la variable "
        "LLM_API_KEY.",
        "chat": "Chatea con él",
        "dashboard": "Hay una página de chat en la carpeta dashboard del código "
        "fuente; necesita Node 18 o posterior. Se abre en http://127.0.0.1:3000.",
        "terminal": "En un terminal",
        "more": "Para programas",
        "health": "estado, modelo y cola",
        "openapi": "todos los endpoints y campos",
        "models": "el modelo y su muestreo",
        "metrics": "cifras para Prometheus",
        "other": "English",
    },
}
