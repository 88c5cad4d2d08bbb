package io.r2lock;

import java.util.ArrayList;
import java.util.List;

/**
 * What {@link AdvisoryLocks#selfCheck()} found out about the server, and about what stands between it and this client. {@link
 * #toString()} is for people.
 *
 * @param excludes two connections asked for one key, and only one of them got it. Some servers that speak PostgreSQL's protocol
 *     accept the calls and lock nothing
 * @param transactionPooling a pooler gives each transaction another server process. Transaction scope works through it, without
 *     the times of loss detection, because r2lock changes no session setting there
 * @param standby the server is in recovery: what is locked there, excludes only there
 * @param serverVersion as {@code server_version} says
 * @param serverEncoding as {@code server_encoding} says: on another one than {@code UTF8}, {@link LockKey#hashtext(String)} of a
 *     text that is not ASCII is refused
 * @param lockCapacity about how many locks the server has room for, of all kinds and all sessions together
 * @param refusedSettings settings of r2lock's own that the server did not take, in alphabetical order
 */
public record SelfCheck(
        boolean excludes,
        boolean transactionPooling,
        boolean standby,
        String serverVersion,
        String serverEncoding,
        long lockCapacity,
        List<String> refusedSettings) {

    /**
     * Whether locks taken here can be relied on.
     *
     * @return whether the server excludes and is no standby; {@link #problems()} may name lesser ones all the same
     */
    public boolean isReliable() {
        return excludes && !standby;
    }

    /**
     * What is wrong, each with what to do about it.
     *
     * @return sentences for people; empty when all is well
     */
    public List<String> problems() {
        List<String> problems = new ArrayList<>();
        if (!excludes) {
            problems.add("Two connections got one exclusive lock: this server does not exclude. Use PostgreSQL.");
        }
        if (standby) {
            problems.add("The server is a standby, where locks exclude nobody elsewhere. Connect to the primary.");
        }
        if (transactionPooling) {
            problems.add(
                    "A pooler in transaction mode stands between: transaction scope works, session scope does not, and the"
                            + " times in which a lost lock is told are not promised. Connect to the server itself, or to a pooler in"
                            + " session mode.");
        }
        if (!refusedSettings.isEmpty()) {
            problems.add("The server refused " + refusedSettings
                    + ": on a silent network it may keep the locks of a dead client"
                    + " for longer, or give them up earlier, than the README says.");
        }
        return problems;
    }

    @Override
    public String toString() {
        return "PostgreSQL " + serverVersion + (standby ? " (standby)" : "") + ", " + serverEncoding
                + ", room for about "
                + lockCapacity + " locks, " + (excludes ? "excludes" : "DOES NOT EXCLUDE")
                + (transactionPooling ? ", behind a transaction-mode pooler" : "")
                + (refusedSettings.isEmpty() ? "" : ", refused " + refusedSettings)
                + (problems().isEmpty() ? "" : ". " + String.join(" ", problems()));
    }
}
