package io.r2lock;

/**
 * A number that grows with each hold of a key, for a resource to refuse writers that have lost their lock and do not know it yet:
 * it keeps the largest token that it has seen, and writes only what comes with a larger one, or the same.
 *
 * <p>Of two exclusive holds of one key the later one has the larger token, whichever processes and scopes they are of; a shared
 * hold's is larger than those of the exclusive holds before it and smaller than those after it. Tokens of different keys say
 * nothing about each other, and numbers are left out. A token is the id of a transaction that began to write after the
 * grant ({@code pg_current_xact_id()}), in the session that holds the lock; so it needs no table, and costs an id of 2<sup>64</sup>.
 *
 * <p>It promises this to what is written in the same database cluster, in whichever of its databases. Elsewhere, after a crash of the
 * server or a failover, tokens may repeat that had left the cluster shortly before: see {@link LockRequest#durableTokens()}. A
 * cluster that is dumped and restored into another begins anew.
 *
 * @see HeldLock#fencingToken()
 */
public final class FencingToken implements Comparable<FencingToken> {

    private final long id;

    private FencingToken(long id) {
        this.id = id;
    }

    /** {@code id}: an {@code xid8} in decimal. */
    static FencingToken parse(String id) {
        long value = Long.parseUnsignedLong(id);
        if (value <= 0) {
            throw new IllegalStateException(
                    "transaction id must be from 1 to 2^63-1 to be a fencing token, was " + id
                            + ": a bigint has no room for a larger one. A new cluster, into which the data is restored, counts from the start.");
        }
        return new FencingToken(value);
    }

    /**
     * The number, as the parameter of a guarded statement: {@code UPDATE … SET …, token = $1 WHERE id = $2 AND token < $1}, with a
     * column {@code token bigint NOT NULL DEFAULT 0}. Where one hold writes more than once, compare with {@code <=}.
     *
     * @return from 1 to 2<sup>63</sup>-1, what a SQL {@code bigint} holds. At a million transactions a second that lasts for 290,000
     *     years; beyond it {@link HeldLock#fencingToken()} errors with {@link IllegalStateException}, so that no token ever turns
     *     negative
     */
    public long asLong() {
        return id;
    }

    @Override
    public int compareTo(FencingToken other) {
        return Long.compare(id, other.id);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof FencingToken token && token.id == id;
    }

    @Override
    public int hashCode() {
        return Long.hashCode(id);
    }

    /** {@code fencing token 727}. */
    @Override
    public String toString() {
        return "fencing token " + id;
    }
}
