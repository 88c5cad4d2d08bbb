package io.r2lock;

/** Whom a hold excludes. */
public enum LockMode {
    /** Excludes every other hold of the key. */
    EXCLUSIVE,
    /** Excludes exclusive holds of the key, and only those. */
    SHARED
}
