#include "edge/edge_priv.h"

int edge_render(struct ht_buf *out, const struct edge_settings *s) {
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < HAPROXY_PIECES; i++) {
        const struct haproxy_piece *p = &haproxy_config[i];
        rc = ht_buf_append_str(out, p->text);
        if (rc == HT_OK && p->setting != HAPROXY_SETTINGS && s->values[p->setting])
            rc = ht_buf_append_str(out, s->values[p->setting]);
    }
    return rc;
}
