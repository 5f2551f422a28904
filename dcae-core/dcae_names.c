/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_names.c - Diffusers' tensor names in the spelling of the original single files. Where the
 * original spells a name by the structure around it (a shortcut wraps a layer in "main.", a
 * pixel-unshuffle step has a convolution inside its convolution layer), both spellings are offered
 * and the caller sees which of them a file has.
 */
#include "dcae_names.h"

#include <string.h>

typedef struct {
    const char *name; /* what a name, or the part behind "down_blocks.S.B.", begins with */
    const char *original[DCAE_NAMES_MAX_SPELLINGS];
    guint part;
} Rule;

static const Rule outer_rules[] = {
    {"encoder.conv_in.conv.", {"encoder.project_in.conv.conv.", "encoder.project_in.conv."}, 0},
    {"encoder.conv_in.", {"encoder.project_in.conv."}, 0},
    {"encoder.conv_out.",
     {"encoder.project_out.main.op_list.0.conv.", "encoder.project_out.op_list.0.conv."},
     0},
    {"decoder.conv_in.", {"decoder.project_in.main.conv.", "decoder.project_in.conv."}, 0},
    {"decoder.norm_out.", {"decoder.project_out.op_list.0."}, 0},
    {"decoder.conv_out.", {"decoder.project_out.op_list.2.conv."}, 0},
};

static const Rule block_rules[] = {
    {"conv1.", {"main.conv1.conv."}, 0},
    {"conv2.", {"main.conv2.conv."}, 0},
    {"norm.", {"main.conv2.norm."}, 0},
    {"conv.", {"main.conv.conv.", "main.conv."}, 0},
    {"attn.to_q.", {"context_module.main.qkv.conv."}, 1},
    {"attn.to_k.", {"context_module.main.qkv.conv."}, 2},
    {"attn.to_v.", {"context_module.main.qkv.conv."}, 3},
    {"attn.to_out.", {"context_module.main.proj.conv."}, 0},
    {"attn.norm_out.", {"context_module.main.proj.norm."}, 0},
    {"conv_out.conv_inverted.", {"local_module.main.inverted_conv.conv."}, 0},
    {"conv_out.conv_depth.", {"local_module.main.depth_conv.conv."}, 0},
    {"conv_out.conv_point.", {"local_module.main.point_conv.conv."}, 0},
    {"conv_out.norm.", {"local_module.main.point_conv.norm."}, 0},
};

/* Appends what the first fitting rule makes of the name. */
static gboolean apply(const Rule *rules, gsize n, const char *name, guint spelling, GString *out,
                      guint *part)
{
    for (gsize i = 0; i < n; i++) {
        if (!g_str_has_prefix(name, rules[i].name))
            continue;
        if (!rules[i].original[spelling])
            return FALSE;
        g_string_append(out, rules[i].original[spelling]);
        g_string_append(out, name + strlen(rules[i].name));
        *part = rules[i].part;
        return TRUE;
    }
    return FALSE;
}

/* A number and the dot behind it; NULL where there is none. */
static const char *pass_index(const char *name)
{
    const char *p = name;
    while (g_ascii_isdigit(*p))
        p++;
    return p > name && *p == '.' ? p + 1 : NULL;
}

/* "attn.to_qkv_multiscale.I.proj_in.weight": the index stands in the middle. */
static gboolean scale_name(const char *name, guint spelling, GString *out)
{
    static const char begin[] = "attn.to_qkv_multiscale.";
    if (spelling > 0 || !g_str_has_prefix(name, begin))
        return FALSE;
    const char *index = name + sizeof begin - 1;
    const char *rest = pass_index(index);
    if (!rest)
        return FALSE;
    gboolean in = g_str_has_prefix(rest, "proj_in.");
    if (!in && !g_str_has_prefix(rest, "proj_out."))
        return FALSE;
    g_string_append(out, "context_module.main.aggreg.");
    g_string_append_len(out, index, rest - index);
    g_string_append_printf(out, "%s%s", in ? "0." : "1.", strchr(rest, '.') + 1);
    return TRUE;
}

/* "encoder.down_blocks.S.B." and "decoder.up_blocks.S.B.". */
static gboolean block_name(const char *name, guint spelling, GString *out, guint *part)
{
    static const char down[] = "encoder.down_blocks.", up[] = "decoder.up_blocks.";
    gboolean encoder = g_str_has_prefix(name, down);
    if (!encoder && !g_str_has_prefix(name, up))
        return FALSE;
    const char *stage = name + (encoder ? sizeof down : sizeof up) - 1;
    const char *block = pass_index(stage);
    const char *rest = block ? pass_index(block) : NULL;
    if (!rest)
        return FALSE;
    g_string_append(out, encoder ? "encoder.stages." : "decoder.stages.");
    g_string_append_len(out, stage, block - stage);
    g_string_append(out, "op_list.");
    g_string_append_len(out, block, rest - block);
    return scale_name(rest, spelling, out) ||
           apply(block_rules, G_N_ELEMENTS(block_rules), rest, spelling, out, part);
}

gboolean dcae_names_to_original(const char *name, guint spelling, GString *out, guint *part)
{
    *part = 0;
    g_string_truncate(out, 0);
    if (spelling >= DCAE_NAMES_MAX_SPELLINGS)
        return FALSE;
    return block_name(name, spelling, out, part) ||
           apply(outer_rules, G_N_ELEMENTS(outer_rules), name, spelling, out, part);
}
