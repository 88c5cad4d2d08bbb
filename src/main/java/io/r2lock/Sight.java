package io.r2lock;

/**
 * What the {@link Heartbeat} knows of the holder of one connection: when it was <em>confirmed</em> last, and whether the silence since
 * then is the server's.
 *
 * <p>Silence that can be explained is no loss for a long while. When the explanation ends, an answer may still be on its way: an event
 * loop that runs again does other things first, or a connection to ask over has only just come. So the server gets some time anew.
 */
final class Sight {

    /**
     * How much longer a hold is believed in while silence says little: no event loop can read an answer, or a busy pooler has no
     * backend to spare for the question, though it keeps the hold's.
     */
    static final int STALL_FACTOR = 10;

    /** Of the patience: how long a loop is busy that counts as stalled, and how much time the server has after that. */
    private static final int PART = 4;

    final LockConnection.Holder holder;
    final long seenAt;
    long backendStart;
    long transactionStart;

    /** The event loop of its own connection. */
    final LoopPing loop;

    private long confirmedAt;
    private boolean forgiven;
    private boolean excused;
    private long excusedAt;

    Sight(Watched connection, LockConnection.Holder holder, long seenAt, long confirmedAt) {
        this.holder = holder;
        this.loop = new LoopPing(connection.loop());
        this.seenAt = seenAt;
        this.confirmedAt = confirmedAt;
        this.backendStart = connection.backendStart();
    }

    /** Once until it is confirmed again: a process that pauses again and again is as good as one that does not hear. */
    void forgive(long gap) {
        if (!forgiven) {
            forgiven = true;
            confirmedAt += gap;
        }
    }

    void confirm(long asked) {
        forgiven = false;
        excused = false;
        confirmedAt = Math.max(confirmedAt, asked);
    }

    long silence(long now) {
        return now - confirmedAt;
    }

    /**
     * Whether it has to be given up.
     *
     * @param early how much before the patience ends, because who is told needs time as well
     * @param stalled no answer to the heartbeat can have been read
     * @param pooled its connection is one to a pooler
     */
    boolean isSilentFor(long patience, long early, long now, boolean stalled, boolean pooled) {
        long part = patience / PART;
        if ((stalled && loop.isStalled(now, part)) || pooled) {
            excused = true;
            excusedAt = now;
        }
        boolean doubtful = excused && now - excusedAt <= part;
        return silence(now) >= (doubtful ? STALL_FACTOR * patience : patience) - early;
    }
}
