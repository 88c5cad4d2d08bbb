package io.r2lock;

import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What was learned when it was opened.
 *
 * @param backendStart in microseconds since 1970, or 0 where the server does not show it
 * @param pooled the backend may be another one in each transaction
 */
record ConnectionFacts(int pid, long backendStart, String encoding, Limits limits, boolean pooled) {

    /** Why one of the keys means nothing on this server, or null. */
    @Nullable
    String unfitFor(List<LockKey> keys) {
        if (encoding.equals("UTF8")) {
            return null;
        }
        for (LockKey key : keys) {
            if (key.needsUtf8Server()) {
                return "key " + key + " has no hash that this server would agree with: its text is not ASCII, and"
                        + " server_encoding is " + encoding + ", not UTF8. Use LockKey.named.";
            }
        }
        return null;
    }

    /** The limits of the role, in the server's own notation, which the lock's statement must restore. */
    record Limits(String lockTimeout, String statementTimeout) {

        boolean areOff() {
            return lockTimeout.equals("0") && statementTimeout.equals("0");
        }
    }
}
