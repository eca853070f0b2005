/*
 * Undoes content codings (RFC 9110 8.4.1): gzip, deflate, br (RFC 7932) and zstd (RFC 8878). Output is bounded, and so
 * is the memory of a decoder: the window of br is 16 MiB at most, that of zstd 8 MiB, the others' 32 KiB. Pure.
 */
#ifndef HT_INSPECT_DECODE_H
#define HT_INSPECT_DECODE_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

/* True when each coding of the list, as Content-Encoding has it, can be undone. An empty list can. */
bool inspect_can_decode(struct ht_slice coding);

/*
 * Appends the decoded body to *out, as far as the body goes, which may be cut, and at most `max` bytes. 0;
 * HT_EINVAL: a coding is not known; HT_EPROTO: the bytes are not that coding, what was good before is in *out;
 * HT_ENOMEM. Work is bounded, too: codings behind one another give up when what is between them is more than
 * INSPECT_DECODE_BETWEEN.
 */
#define INSPECT_DECODE_BETWEEN (16u << 20)
int inspect_decode(struct ht_slice coding, struct ht_slice body, size_t max, struct ht_buf *out) HT_MUST_USE;

/* ---- the same piece by piece, for one coding ---- */

struct inspect_decoder;

/* NULL: the coding is not known, or there is no memory. */
struct inspect_decoder *inspect_decoder_create(struct ht_slice coding) HT_MUST_USE;
/* Permessage-deflate (RFC 7692): raw deflate without an end. */
struct inspect_decoder *inspect_decoder_create_raw(void) HT_MUST_USE;
void inspect_decoder_destroy(struct inspect_decoder **d);
/* What it holds by now, windows and all; 0 for NULL. */
size_t inspect_decoder_bytes(const struct inspect_decoder *d);
/* Appends what the piece decodes to, at most `max` bytes. 0; HT_ELIMIT: there was more, and the decoder must not be fed
 * again; HT_EPROTO; HT_ENOMEM. */
int inspect_decoder_feed(struct inspect_decoder *d, struct ht_slice piece, size_t max, struct ht_buf *out) HT_MUST_USE;
/* The same, but only the first `keep` bytes are in *out; *total grows by all that there were, `max` of them at most. */
int inspect_decoder_count(struct inspect_decoder *d, struct ht_slice piece, size_t keep, size_t max, struct ht_buf *out,
                          uint64_t *total) HT_MUST_USE;
/*
 * How much the next piece of `n` bytes may decode to, so that a stranger who sends little cannot cost much time:
 * INSPECT_DECODE_AHEAD bytes at first, and INSPECT_DECODE_RATIO for each byte that has come.
 */
#define INSPECT_DECODE_AHEAD (16u << 20)
#define INSPECT_DECODE_RATIO 64
size_t inspect_decoder_allowance(const struct inspect_decoder *d, size_t n);
/* Forgets what came before: the next piece begins anew. */
void inspect_decoder_reset(struct inspect_decoder *d);

#endif
