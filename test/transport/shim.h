/* shim.h - what transport_test.c steers in shim.c. */
#ifndef SHIM_H
#define SHIM_H

extern char shim_moving[64];	/* where moving.test is */

#endif							/* SHIM_H */
