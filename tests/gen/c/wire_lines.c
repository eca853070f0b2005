/*
 * The C codec as a filter, for the differential test: each input line is `receiver state split hex`, each output line
 * what came of that message: `rule scope code close`, or `ok` and for each frame `type:stream:canonical payload` (`-`:
 * cannot be written).
 */
#include "wire/bytes.h"
#include "wire/frames.h"

#include <stdio.h>
#include <stdlib.h>

struct line {
    struct wire_scratch *scratch;
    struct wire_error err;
    char text[1 << 20];
    size_t n;
};

static void put_hex(struct line *l, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        l->n += (size_t)snprintf(l->text + l->n, 3, "%02x", p[i]);
}

static int on_frame(void *ctx, uint8_t type, uint32_t stream_id, const uint8_t *payload, size_t len) {
    static uint8_t out[WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD];
    struct line *l = ctx;
    union wire_any value;
    int rc = wire_decode_any(type, payload, len, l->scratch, &value, &l->err);
    if (rc != 0)
        return rc;
    int n = wire_encode_any(out, sizeof out, type, stream_id, &value);
    l->n += (size_t)snprintf(l->text + l->n, 64, " %u:%lu:", type, (unsigned long)stream_id);
    if (n < 0)
        l->text[l->n++] = '-';
    else
        put_hex(l, out + WIRE_LIMIT_HEADER, (size_t)n - WIRE_LIMIT_HEADER);
    return 0;
}

static int on_data(void *ctx, uint32_t stream_id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first) {
    struct line *l = ctx;
    (void)frame_len;
    if (first)
        l->n += (size_t)snprintf(l->text + l->n, 64, " %u:%lu:", WIRE_DATA, (unsigned long)stream_id);
    put_hex(l, chunk, n);
    return 0;
}

static enum wire_link_state state_of(const char *name) {
    int i = 0;
    while (i < 16 && strcmp(wire_link_state_name((enum wire_link_state)i), name) != 0)
        i++;
    return (enum wire_link_state)i;
}

static unsigned nibble(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

int main(void) {
    static const struct wire_asm_ops ops = {on_frame, on_data};
    static const char *const scopes[] = {"stream", "session", "reply"};
    static char in[1 << 20], hex[1 << 20];
    static struct line l;
    char receiver[16], state[32];
    size_t split;
    l.scratch = wire_scratch_create();
    while (l.scratch && fgets(in, sizeof in, stdin)) {
        hex[0] = '\0';
        if (sscanf(in, "%15s %31s %zu %s", receiver, state, &split, hex) < 3)
            return 1;
        size_t n = strlen(hex) / 2;
        uint8_t *m = malloc(n + 1);
        if (!m)
            return 1;
        for (size_t i = 0; i < n; i++)
            m[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
        struct wire_asm a = {.caps = ~0u,
                             .role = strcmp(receiver, "kit") == 0 ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER,
                             .state = state_of(state)};
        l.n = 0;
        split = ht_min(split, n);
        ssize_t used = split < n ? wire_asm_feed(&a, m, split, false, &ops, &l, &l.err) : 0;
        if (used >= 0)
            used = wire_asm_feed(&a, m + used, n - (size_t)used, true, &ops, &l, &l.err);
        l.text[l.n] = '\0';
        if (used < 0)
            printf("%s %s %s %u\n", l.err.rule, scopes[l.err.scope], wire_code_name(l.err.code), l.err.ws_close);
        else
            printf("ok%s\n", l.text);
        free(m);
    }
    wire_scratch_destroy(&l.scratch);
    return 0;
}
