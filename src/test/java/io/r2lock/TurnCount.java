package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import reactor.core.publisher.Mono;

/** Holds of several clients on one key: how many, and how many in a row of one client. */
final class TurnCount {

    private final int[] holds;
    private final int[] longest;
    private int last = -1;
    private int run;
    private int inside;

    TurnCount(int clients) {
        holds = new int[clients];
        longest = new int[clients];
    }

    /** The work of one hold; {@code first} is done before it by the first one in a row. */
    Mono<Void> work(int client, Mono<Void> first, Mono<?> inner) {
        return Mono.defer(() -> begin(client) == 1 ? first : Mono.empty())
                .then(inner.then())
                .doOnTerminate(this::end)
                .doOnCancel(this::end);
    }

    Mono<Void> work(int client, Mono<?> inner) {
        return work(client, Mono.empty(), inner);
    }

    private synchronized int begin(int client) {
        assertThat(++inside).isEqualTo(1);
        run = client == last ? run + 1 : 1;
        last = client;
        holds[client]++;
        longest[client] = Math.max(longest[client], run);
        return run;
    }

    private synchronized void end() {
        inside--;
    }

    synchronized int holds(int client) {
        return holds[client];
    }

    synchronized int longest(int client) {
        return longest[client];
    }

    @Override
    public synchronized String toString() {
        return "holds " + Arrays.toString(holds) + ", longest runs " + Arrays.toString(longest);
    }
}
