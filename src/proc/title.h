/* What ps(1) shows of this process in place of its command line. */
#ifndef HT_PROC_TITLE_H
#define HT_PROC_TITLE_H

/* Call it first in main(), with the arguments of main(). */
void proc_title_begin(int argc, char **argv);
/* Writes over the arguments, so copies of what is still needed must have been made. A title that is too long is cut.
 * Nothing happens without proc_title_begin(). */
void proc_title_set(const char *text);

#endif
