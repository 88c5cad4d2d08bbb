package io.r2lock;

/** What siblings inside one transaction take turns for: a key, below the hold that has it. */
record ChildKey(Hold owner, LockKey key) {

    @Override
    public boolean equals(Object other) {
        return other instanceof ChildKey that && owner == that.owner && key.equals(that.key);
    }

    @Override
    public int hashCode() {
        return 31 * System.identityHashCode(owner) + key.hashCode();
    }
}
