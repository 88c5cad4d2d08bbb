package io.r2lock;

import java.time.Instant;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * Who holds an advisory lock of this database, or waits for one, as {@link AdvisoryLocks#inspect()} saw it.
 *
 * <p>Many holders of session scope may share what is one lock to the server: they are one entry. The text form is for people; like
 * {@link #names()} it may show personal data, where keys were named after such.
 *
 * @param key the number that is locked, without a name
 * @param names how this client's own holds and requests call that number at the moment, whoever holds it: one name as a rule, none
 *     for keys of {@link LockKey#of(long)} and for those of others, several where different names collide. Of a permit, where
 *     {@code key} is the number of its slot, the key asked for and the slot; escaped, of long names the beginning
 * @param mode what is held or asked for
 * @param state held, or where it waits
 * @param since since when, on the server's clock. What waits on the server: as {@code pg_locks.waitstart} says, which may be empty
 *     for an instant. What this client holds, or has waiting in itself: the age by the client's clock before the server's time, right
 *     to a round trip; of what several share, the oldest. What others hold: empty, the server does not know
 * @param pid the server process, with which {@code pg_terminate_backend(pid)} would end it; empty for {@link State#WAITING_HERE} and for
 *     a lock that {@code PREPARE TRANSACTION} has taken out of its session
 * @param application the {@code application_name}; empty where the server does not tell
 * @param clientAddress the address that the server sees, which may be a pooler's; empty for a local socket, and for a process of
 *     another role where this one is not a member of {@code pg_read_all_stats}
 * @param blockedBy the server processes that have to end first, in ascending order, 0 for a prepared transaction. On the server: as
 *     {@code pg_blocking_pids} says. In this client: its own process that has the key or waits for it on the server, else those that hold
 *     it; for a permit, those that hold one
 */
public record LockInfo(
        LockKey key,
        List<String> names,
        LockMode mode,
        State state,
        Optional<Instant> since,
        OptionalInt pid,
        Optional<String> application,
        Optional<String> clientAddress,
        List<Integer> blockedBy) {

    /** How far a lock has come. */
    public enum State {
        /** Granted by the server. */
        HELD,
        /** In the server's queue. */
        WAITING_ON_SERVER,
        /**
         * In the client that was asked only, where the server knows nothing of it: queued behind others of this client, between two
         * tries, or until a connection is free. Such of other clients are not to be seen.
         */
        WAITING_HERE
    }

    LockInfo withNames(List<String> known) {
        return new LockInfo(key, known, mode, state, since, pid, application, clientAddress, blockedBy);
    }

    LockInfo since(Instant grant) {
        return new LockInfo(key, names, mode, state, Optional.of(grant), pid, application, clientAddress, blockedBy);
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(160);
        text.append(names.isEmpty() ? key.toString() : String.join(" = ", names) + " (" + key + ")");
        text.append(mode == LockMode.EXCLUSIVE ? ": exclusive, " : ": shared, ");
        text.append(
                switch (state) {
                    case HELD -> "held";
                    case WAITING_ON_SERVER -> "waiting on the server";
                    case WAITING_HERE -> "waiting in this client";
                });
        since.ifPresent(instant -> text.append(" since ").append(instant));
        pid.ifPresent(number -> text.append(" by pid ").append(number));
        application.ifPresent(name -> text.append(", application ").append(KeyText.escaped(name)));
        clientAddress.ifPresent(address -> text.append(", client ").append(address));
        if (!blockedBy.isEmpty()) {
            text.append(", blocked by ").append(blockedBy);
        }
        return text.toString();
    }
}
