/**
 * The demo: a small WebFlux service whose handlers are guarded by r2lock. Start reading at {@link WebhookController} and
 * {@link JobController}; {@link DatabaseConfiguration} shows how the locks are set up.
 */
@NullMarked
package io.r2lock.demo;

import org.jspecify.annotations.NullMarked;
