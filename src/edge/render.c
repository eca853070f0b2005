#include "edge/edge_priv.h"

int edge_render(struct ht_buf *out, const struct haproxy_file *file, const struct edge_settings *s) {
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < file->n; i++) {
        const struct haproxy_piece *p = &file->pieces[i];
        rc = ht_buf_append_str(out, p->text);
        if (rc == HT_OK && p->setting != HAPROXY_SETTINGS && s->values[p->setting])
            rc = ht_buf_append_str(out, s->values[p->setting]);
    }
    return rc;
}
