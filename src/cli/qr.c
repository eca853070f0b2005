/* Draws a QR code with half-block characters, two modules in a character. It draws the light modules, because most
 * terminals are dark. */
#include "cli/cli.h"

#include <errno.h>
#include <qrencode.h>

#define QUIET 2 /* light modules around the code. ISO/IEC 18004 asks for 4, but telephones need no more than 2 */

/* True: the module is light, as all beyond the code are. */
static bool light(const QRcode *q, int x, int y) {
    return x < 0 || y < 0 || x >= q->width || y >= q->width || !(q->data[y * q->width + x] & 1);
}

static int put_row(struct ht_buf *b, const QRcode *q, int y, bool color) {
    /* With colours the code is white on black, whatever colours the terminal has. */
    int rc = color ? ht_buf_append_str(b, "\033[97;40m") : HT_OK;
    for (int x = -QUIET; x < q->width + QUIET && rc == HT_OK; x++) {
        bool upper = light(q, x, y), lower = light(q, x, y + 1) && y + 1 < q->width + QUIET;
        if (cli_utf8())
            rc = ht_buf_append_str(b, upper ? (lower ? "\xe2\x96\x88" : "\xe2\x96\x80") : lower ? "\xe2\x96\x84" : " ");
        else
            rc = ht_buf_append_str(b, upper ? "##" : "  ");
    }
    return rc == HT_OK ? ht_buf_append_str(b, color ? "\033[0m\n" : "\n") : rc;
}

int cli_qr_put(struct ht_buf *b, const char *text, bool color) {
    QRcode *q = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_L);
    int rc = q ? HT_OK : errno == ERANGE ? HT_ELIMIT : HT_ENOMEM;
    for (int y = -QUIET; q && y < q->width + QUIET && rc == HT_OK; y += cli_utf8() ? 2 : 1)
        rc = put_row(b, q, y, color);
    QRcode_free(q);
    return rc;
}

bool cli_qr_rows(const char *text, struct inspect_qr *out) {
    static const char digits[] = "0123456789abcdef";
    QRcode *q = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_L);
    bool fits = q && q->width <= INSPECT_QR_SIDE;
    out->size = fits ? (unsigned)q->width : 0;
    for (unsigned y = 0; y < out->size; y++) {
        unsigned width = (out->size + 3) / 4;
        for (unsigned i = 0; i < width; i++) {
            unsigned digit = 0;
            for (unsigned x = 4 * i; x < 4 * i + 4; x++)
                digit = digit << 1 | (x < out->size && q->data[y * out->size + x] & 1);
            out->rows[y][i] = digits[digit];
        }
        out->rows[y][width] = '\0';
    }
    QRcode_free(q);
    return fits;
}
