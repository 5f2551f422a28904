/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_json.h - JSON text from strangers by json-glib, made strict and bounded. It knows JSON and
 * nothing of what the text means.
 */
#ifndef DCAE_JSON_H
#define DCAE_JSON_H

#include <json-glib/json-glib.h>

/* Parses a text whose root is an object.
 *
 * text, size  need no NUL at the end; borrowed for the call.
 * name        what messages call the text.
 *
 * Refuses what json-glib takes but JSON does not have (comments, hexadecimal, whole numbers beyond
 * 64 bits, several roots), keys that stand twice or are longer than 1024 bytes, NUL characters, and
 * texts that would cost much memory, time or stack: nesting beyond 64, more than 4096 members in
 * an object or 100000 tokens (brackets, commas, colons) in all.
 *
 * Free with json_node_unref(). Errors: FORMAT. Thread-safe. */
JsonNode *dcae_json_parse(const char *text, gsize size, const char *name, GError **error);

/* The value of a node, or NULL or FALSE where node is NULL or of another kind. Values are owned by
 * the node. */
JsonObject *dcae_json_object(JsonNode *node);
JsonArray *dcae_json_array(JsonNode *node);
const char *dcae_json_string(JsonNode *node);
/* A whole number from 0 to 2^63 - 1. */
gboolean dcae_json_uint(JsonNode *node, guint64 *out);
/* Any finite number. */
gboolean dcae_json_number(JsonNode *node, double *out);
gboolean dcae_json_boolean(JsonNode *node, gboolean *out);

#endif
