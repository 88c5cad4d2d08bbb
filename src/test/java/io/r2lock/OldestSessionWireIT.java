package io.r2lock;

class OldestSessionWireIT extends SessionWireContract {

    OldestSessionWireIT() {
        super(TestServer.oldest());
    }
}
