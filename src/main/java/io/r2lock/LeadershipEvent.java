package io.r2lock;

import java.time.Instant;

/**
 * What happened to a candidate of an election; told by {@link LeaderElection#events()}.
 *
 * @param kind what happened
 * @param key what is led
 * @param term the token of the term that began or ended
 * @param at when, by the clock of this process
 */
public record LeadershipEvent(Kind kind, LockKey key, FencingToken term, Instant at) {

    /** What happened. */
    public enum Kind {
        /** The candidate leads: its work is about to be called. */
        ELECTED,
        /** The lock was lost, or the client was closed; the work has been cancelled. */
        LOST,
        /** The candidate stepped down: it resigned, its work ended, or it was cancelled. The lock has been released. */
        RESIGNED
    }
}
