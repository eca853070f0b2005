/* The certificate that HAProxy shows: certs/edge.pem, with its key. */
#include "edge/domains.h"
#include "edge/edge_priv.h"

#include "base/log.h"
#include "proc/files.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define LEAF_DAYS 30
#define FILE_MAX (64u * 1024u)

static int read_pair(const char *folder, struct io_site_pair *out, struct ht_errmsg *err) {
    int n = edge_folder_read(folder, "ca/ca.key", out->key, sizeof out->key, err);
    if (n < 0)
        return n;
    n = edge_folder_read(folder, EDGE_AUTHORITY_FILE, out->cert, sizeof out->cert, err);
    return n < 0 ? n : HT_OK;
}

/* The certificate is written last: an authority without a key is one that was never made. */
static int make_authority(const char *folder, const char *domain, struct io_site_pair *out, struct ht_errmsg *err) {
    int rc = io_site_authority(domain, out, err);
    if (rc == HT_OK)
        rc = edge_folder_write(folder, "ca/ca.key", ht_slice_str(out->key), true, err);
    if (rc == HT_OK)
        rc = edge_folder_write(folder, EDGE_AUTHORITY_FILE, ht_slice_str(out->cert), true, err);
    return rc;
}

static int own_certificate(const struct edge_config *cfg, struct ht_buf *out, struct ht_errmsg *err) {
    struct io_site_pair ca, leaf;
    char below[80];
    snprintf(below, sizeof below, "%s.containers", cfg->node);
    int rc = read_pair(cfg->folder, &ca, err);
    bool made = rc == HT_EOF;
    if (made)
        rc = make_authority(cfg->folder, cfg->domain, &ca, err);
    if (rc == HT_OK)
        rc = io_site_issue(&ca, cfg->domain, below, LEAF_DAYS, &leaf, err);
    if (rc == HT_ETLS && !made) { /* of another domain, or at its end */
        ht_warn("edge", "%s: a new authority is made, which browsers have to be told of", err->text);
        rc = make_authority(cfg->folder, cfg->domain, &ca, err);
        if (rc == HT_OK)
            rc = io_site_issue(&ca, cfg->domain, below, LEAF_DAYS, &leaf, err);
    }
    if (rc == HT_OK && ht_buf_printf(out, "%s%s%s", leaf.cert, ca.cert, leaf.key) < 0)
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    explicit_bzero(&ca, sizeof ca);
    explicit_bzero(&leaf, sizeof leaf);
    return rc;
}

static int append_file(struct ht_buf *out, enum proc_files_kind kind, const char *path, struct ht_errmsg *err) {
    int fd = proc_files_open(kind, path, NULL, err);
    if (fd < 0)
        return fd;
    int rc = HT_OK;
    uint8_t *to = ht_buf_reserve(out, FILE_MAX + 1);
    ssize_t n = to ? read(fd, to, FILE_MAX) : -1;
    if (n <= 0)
        rc = ht_fail(err, HT_EIO, "%s: %s", path,
                     n == 0 ? "it is empty"
                     : to   ? strerror(errno)
                            : ht_err_text(HT_ENOMEM));
    else
        ht_buf_commit(out, (size_t)n);
    close(fd);
    if (rc == HT_OK && ht_buf_head(out)[ht_buf_size(out) - 1] != '\n' && ht_buf_append_str(out, "\n") < 0)
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    return rc;
}

uint64_t edge_site_hash(uint64_t hash, struct ht_slice text) {
    for (size_t i = 0; i < text.n; i++)
        hash = ht_hash_char(hash, text.p[i]);
    return hash;
}

int edge_site_write(const struct edge_config *cfg, uint64_t *hash, struct ht_errmsg *err) {
    struct ht_buf text = {0};
    struct edge_cert issued;
    int rc;
    if (cfg->cert_file) {
        rc = append_file(&text, PROC_FILES_CERT, cfg->cert_file, err);
        if (rc == HT_OK && cfg->key_file)
            rc = append_file(&text, PROC_FILES_KEY, cfg->key_file, err);
    } else if (cfg->acme.dns && edge_domains_own(cfg->folder, cfg->node, cfg->domain, &text, &issued)) {
        rc = HT_OK; /* of the ACME server */
    } else {
        rc = own_certificate(cfg, &text, err);
    }
    if (rc == HT_OK)
        rc = edge_folder_write(cfg->folder, "certs/edge.pem", ht_buf_slice(&text), true, err);
    *hash = edge_site_hash(*hash, ht_buf_slice(&text));
    if (text.data)
        explicit_bzero(text.data, text.cap);
    ht_buf_free(&text);
    return rc;
}
