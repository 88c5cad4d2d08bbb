package io.r2lock;

class SessionContractIT extends SessionContract {

    SessionContractIT() {
        super(TestServer.newest());
    }
}
