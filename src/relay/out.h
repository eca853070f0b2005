/* What the relay's own files need of relay_out beyond pipe.h. */
#ifndef HT_RELAY_OUT_H
#define HT_RELAY_OUT_H

#include "relay/pipe.h"

/* Copies everything borrowed, so that its memory may go. 0 or HT_ENOMEM (nothing is lost then). */
int relay_out_spill(struct relay_out *o) HT_MUST_USE;
/* Adds bytes that need not stay valid. 0 or HT_ENOMEM. */
int relay_out_copy(struct relay_out *o, const void *p, size_t n) HT_MUST_USE;
/* Forgets what is borrowed; what was copied stays. */
void relay_out_drop_borrowed(struct relay_out *o);

/* relay_pipe_destroy() with a RESET of that code for the stream. */
void relay_pipe_abort(struct relay_pipe **p, uint16_t code, const char *reason);

#endif
