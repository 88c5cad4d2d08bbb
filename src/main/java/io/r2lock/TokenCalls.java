package io.r2lock;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import org.jspecify.annotations.Nullable;
import reactor.util.concurrent.Queues;

/**
 * Those who ask a session for a fencing token: {@code arrived ──▶ waiting ──▶ asked ──▶ answered}. One message at a time, which answers
 * with one id all who had come before it was sent.
 *
 * <p>Holds may share an id: of one key they are readers side by side, or all but one of them have ended. A message of its own, so that
 * its error, on a server that has no ids to give, is nobody else's, and puts no lock in doubt. Each question comes after the answer
 * that granted the lock, and so does the id.
 *
 * <p>{@link #add} is called from any thread, all else by the connection's drain.
 */
final class TokenCalls {

    private record Asked(boolean durable, TokenCall caller) {}

    private final Queue<Asked> arrived = Queues.<Asked>unboundedMultiproducer().get();
    private final ArrayDeque<Asked> waiting = new ArrayDeque<>();
    private List<Asked> asked = List.of();
    private @Nullable LockBatch message;

    void add(boolean durable, TokenCall caller) {
        arrived.offer(new Asked(durable, caller));
    }

    void takeArrived() {
        for (Asked one = arrived.poll(); one != null; one = arrived.poll()) {
            waiting.add(one);
        }
    }

    /** Whether there is something to send, and nothing under way. */
    boolean isWaiting() {
        return message == null && !waiting.isEmpty();
    }

    /** Sends what waits, up to the first that asks otherwise: a durable token costs what others have not asked for. */
    void send(BatchFlight flight) {
        List<Asked> next = new ArrayList<>();
        boolean durable = waiting.element().durable();
        while (!waiting.isEmpty() && waiting.element().durable() == durable) {
            next.add(waiting.remove());
        }
        asked = next;
        message = flight.ask(durable ? SessionSql.DURABLE_TOKEN : LockSql.TOKEN);
    }

    boolean isMessage(LockBatch batch) {
        return batch == message;
    }

    /** The message is over. */
    void answered(LockBatch batch) {
        List<Asked> answered = asked;
        asked = List.of();
        message = null;
        Throwable error = batch.error();
        answered.forEach(one ->
                SessionCall.tell(() -> one.caller().answered(error == null ? batch.text() : "", error)));
    }

    /** The connection has ended. */
    void fail(Throwable why) {
        takeArrived();
        List<Asked> all = new ArrayList<>(asked);
        all.addAll(waiting);
        asked = List.of();
        waiting.clear();
        all.forEach(one -> SessionCall.tell(() -> one.caller().answered("", why)));
    }
}
