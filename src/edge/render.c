#include "edge/edge_priv.h"

static int render_text(struct ht_buf *out, const char *text, const struct edge_settings *s) {
    const char *mark;
    int rc = HT_OK;
    while (rc == HT_OK && (mark = strchr(text, HAPROXY_SETTING_MARK)) != NULL) {
        const char *value = s->values[mark[1] - 'a'];
        rc = ht_buf_append(out, text, (size_t)(mark - text));
        if (rc == HT_OK && value)
            rc = ht_buf_append_str(out, value);
        text = mark + 2;
    }
    return rc == HT_OK ? ht_buf_append_str(out, text) : rc;
}

int edge_render(struct ht_buf *out, const struct haproxy_file *file, const struct edge_settings *s) {
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < file->n; i++)
        rc = render_text(out, file->texts + i * file->width, s);
    return rc;
}
