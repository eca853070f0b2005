/*
 * QR codes as rows of hexadecimal digits. One takes a tenth of a millisecond, and the page asks anew whenever a session
 * comes or goes, so the last ones are kept.
 */
#include "admin/admin_priv.h"

#include "base/mem.h"

#include <qrencode.h>

struct admin_qr_kept {
    char *url; /* NULL: nothing is kept here */
    char *text;
    struct ht_slice *rows;
    struct admin_qr qr; /* points to `rows`; size 0: there is no code for the URL */
    uint64_t answer;    /* the number of the last answer that it was part of */
};

static void forget(struct admin_qr_kept *q) {
    ht_free(q->url);
    ht_free(q->text);
    ht_free(q->rows);
    *q = (struct admin_qr_kept){.url = NULL};
}

void admin_qr_begin(struct admin *a) {
    a->qr_answer++;
    a->qr_n = 0;
}

void admin_free(struct admin *a) {
    for (unsigned i = 0; a->qrs && i < ADMIN_QR_MAX; i++)
        forget(&a->qrs[i]);
    ht_free(a->qrs);
    a->qrs = NULL;
}

static int put_rows(struct admin_qr_kept *out, const QRcode *q) {
    static const char digits[] = "0123456789abcdef";
    size_t size = (size_t)q->width, width = (size + 3) / 4;
    out->text = ht_calloc(size, width);
    out->rows = ht_calloc(size, sizeof *out->rows);
    if (!out->text || !out->rows)
        return HT_ENOMEM;
    for (size_t y = 0; y < size; y++) {
        char *row = out->text + y * width;
        for (size_t i = 0; i < width; i++) {
            unsigned digit = 0;
            for (size_t x = 4 * i; x < 4 * i + 4; x++)
                digit = digit << 1 | (x < size && q->data[y * size + x] & 1);
            row[i] = digits[digit];
        }
        out->rows[y] = ht_slice_of(row, width);
    }
    out->qr = (struct admin_qr){.size = size, .rows = out->rows, .n_rows = size};
    return 0;
}

static void make(struct admin_qr_kept *out, const char *url) {
    forget(out);
    out->url = ht_strndup(url, strlen(url));
    QRcode *q = out->url ? QRcode_encodeString8bit(url, 0, QR_ECLEVEL_L) : NULL;
    if (out->url && q && put_rows(out, q) < 0)
        forget(out);
    QRcode_free(q);
}

const struct admin_qr *admin_qr_of(struct admin *a, const char *url) {
    if (a->qr_n == ADMIN_QR_MAX)
        return NULL;
    if (!a->qrs)
        a->qrs = ht_calloc(ADMIN_QR_MAX, sizeof *a->qrs);
    if (!a->qrs)
        return NULL;
    struct admin_qr_kept *found = NULL, *oldest = &a->qrs[0];
    for (unsigned i = 0; i < ADMIN_QR_MAX && !found; i++) {
        if (a->qrs[i].url && strcmp(a->qrs[i].url, url) == 0)
            found = &a->qrs[i];
        else if (a->qrs[i].answer < oldest->answer)
            oldest = &a->qrs[i];
    }
    if (!found) { /* qr_n < ADMIN_QR_MAX, so `oldest` is not part of this answer yet */
        found = oldest;
        make(found, url);
    }
    a->qr_n += found->answer != a->qr_answer;
    found->answer = a->qr_answer;
    return found->qr.size ? &found->qr : NULL;
}
