/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_weights.h - packed weights shared by every codec of the process.
 */
#ifndef DCAE_SHARED_WEIGHTS_H
#define DCAE_SHARED_WEIGHTS_H

#include "dcae_backend.h"

/* One user's hold on packed weights. */
typedef struct _DcaeSharedWeights DcaeSharedWeights;

/* Returns the weights of model, direction, backend and arithmetic: those that another user holds
 * already, or else packed now. A second caller waits for the first to pack. program: any size,
 * needed only during the call. Errors: those of DcaeBackend.prepare. Thread-safe. */
DcaeSharedWeights *dcae_shared_weights_acquire(const DcaeBackend *backend, DcaeModel *model,
                                               const DcaeProgram *program,
                                               const DcaeBackendParams *params, GError **error);
/* The last user frees them. NULL is allowed. Thread-safe. */
void dcae_shared_weights_release(DcaeSharedWeights *shared);
const DcaeWeights *dcae_shared_weights_get(const DcaeSharedWeights *shared);

#endif
