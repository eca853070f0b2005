/*
 * The C codec of the text wire as a filter, for the differential test: each input line is `role hex`, each output line
 * the rule that is broken, with the stream that bytes are missing on, or `ok` and the canonical text.
 */
#include "vtunnel_gen.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned nibble(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

static void one(unsigned sender, uint8_t *p, size_t n) {
    static uint8_t out[1 << 20];
    char *room = malloc(n ? n : 1);
    struct json_arena arena = {room, 0, n};
    struct vtunnel_message m;
    struct wire_text_error err;
    int rc = wire_text_decode(&vtunnel_spec, sender, p, n, &arena, &m, &err);
    if (rc != 0) {
        printf("%s", err.rule);
        if (m.type)
            printf(" %lu", (unsigned long)m.stream_id);
    } else {
        int len = wire_text_encode(&vtunnel_spec, &m, out, sizeof out);
        printf("ok ");
        for (int i = 0; i < len; i++)
            printf("%02x", out[i]);
    }
    puts("");
    free(room);
}

int main(void) {
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin)) {
        char *hex = strchr(line, ' ') + 1;
        size_t n = strcspn(hex, "\n") / 2;
        uint8_t *p = malloc(n ? n : 1);
        for (size_t i = 0; i < n; i++)
            p[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
        one(line[0] == 'c' ? VTUNNEL_ROLE_CLIENT : VTUNNEL_ROLE_SERVER, p, n);
        free(p);
    }
    return 0;
}
