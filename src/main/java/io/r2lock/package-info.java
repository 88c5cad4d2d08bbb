/**
 * PostgreSQL advisory locks as Reactor operators.
 *
 * <p>Start at {@link io.r2lock.AdvisoryLocks}, then {@link io.r2lock.LockRequest}, which says what holds for every publisher.
 *
 * <p>A <em>key</em> is what is locked, a number with the name it came from ({@link io.r2lock.LockKey}); the <em>mode</em> is
 * exclusive or shared. A request passes the <em>gate</em> of its key, the queue of this process, then takes the lock on the server;
 * from then on it is a <em>hold</em> ({@link io.r2lock.HeldLock}): in transaction <em>scope</em> a transaction on a connection of its
 * own, in session scope one of many holds on a connection that they share. A <em>hand-off</em> passes it to the next caller of this
 * process. It ends by commit, by release, or by <em>loss</em>: then the server gave it up, and nobody here had asked for that.
 */
@NullMarked
package io.r2lock;

import org.jspecify.annotations.NullMarked;
