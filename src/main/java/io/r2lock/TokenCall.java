package io.r2lock;

import org.jspecify.annotations.Nullable;

/** Is told the transaction id that a session assigned for a token. */
@FunctionalInterface
interface TokenCall {

    /**
     * The question has ended.
     *
     * @param id in decimal; empty where there is an error
     */
    void answered(String id, @Nullable Throwable error);
}
