/* The version of this build, from meson. */
#ifndef PL_SUPERVISOR_VERSION_H
#define PL_SUPERVISOR_VERSION_H

#ifndef PL_VERSION_TEXT
#define PL_VERSION_TEXT "0.1.0"
#endif

#endif
