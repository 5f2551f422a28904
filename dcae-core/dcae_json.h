/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_json.h - a strict pull reader for JSON text from strangers: no tree, no allocation but the
 * strings asked for, nesting bounded. It knows JSON and nothing of what the text means.
 *
 * The reader fails once and for all: after a fault every function returns FALSE, so a caller may
 * read a whole object and look at `fault` at the end.
 *
 *     dcae_json_begin(&r, '{');
 *     while (dcae_json_key(&r, key))
 *         read or dcae_json_skip() the value;
 *     if (r.fault) ...
 */
#ifndef DCAE_JSON_H
#define DCAE_JSON_H

#include <glib.h>

#define DCAE_JSON_MAX_DEPTH 64

typedef struct {
    const char *start, *pos, *end;
    const char *fault; /* what is wrong at pos, static text; NULL while all is well */
    guint depth;
    gboolean fresh; /* the innermost array or object has had no item yet */
} DcaeJson;

/* text must be valid UTF-8 and outlive the reader; it needs no NUL at its end. */
void dcae_json_init(DcaeJson *reader, const char *text, gsize size);

/* Records a fault of the caller's own; returns FALSE. */
gboolean dcae_json_fail(DcaeJson *reader, const char *fault);

/* The first character of the next value, or 0 at the end. */
char dcae_json_peek(DcaeJson *reader);

/* Enters an array ('[') or object ('{'). */
gboolean dcae_json_begin(DcaeJson *reader, char open);
/* TRUE where the array has another item, which must be read; FALSE leaves the array. */
gboolean dcae_json_item(DcaeJson *reader);
/* The same for an object: reads the next key into key (NULL: checked and dropped). */
gboolean dcae_json_key(DcaeJson *reader, GString *key);

/* Replaces the contents of out (NULL: checked and dropped). A NUL character is a fault. */
gboolean dcae_json_string(DcaeJson *reader, GString *out);
/* A whole number from 0 to 2^64 - 1 without fraction or exponent. */
gboolean dcae_json_uint(DcaeJson *reader, guint64 *out);
gboolean dcae_json_number(DcaeJson *reader, double *out);
gboolean dcae_json_boolean(DcaeJson *reader, gboolean *out);
gboolean dcae_json_null(DcaeJson *reader);
/* Checks and skips one value of any kind. */
gboolean dcae_json_skip(DcaeJson *reader);
/* TRUE where nothing but white space is left. */
gboolean dcae_json_finish(DcaeJson *reader);

#endif
