//! The methods of the contract, by the path of their HTTP/2 requests.

/// One method of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// `OtpService.CreateChallenge`
    CreateChallenge,
    /// `OtpService.SendOtp`
    SendOtp,
    /// `OtpService.VerifyOtp`
    VerifyOtp,
    /// `OtpService.CancelChallenge`
    CancelChallenge,
    /// `OtpService.GetChallenge`
    GetChallenge,
    /// `OtpAdminService.GetAccount`
    GetAccount,
    /// `OtpAdminService.LockAccount`
    LockAccount,
    /// `OtpAdminService.UnlockAccount`
    UnlockAccount,
}

/// Which services of the contract a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServedServices {
    /// Both.
    All,
    /// `OtpService`: operators have a listener of their own.
    Otp,
    /// `OtpAdminService`.
    Admin,
}

impl ServedServices {
    /// Whether a method is served.
    pub(crate) const fn has(self, method: Method) -> bool {
        match self {
            Self::All => true,
            Self::Otp => !method.is_for_operators(),
            Self::Admin => method.is_for_operators(),
        }
    }
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RpcTarget {
    /// A method of the contract.
    Contract(Method),
    /// Health and reflection, which the framework answers by rules of their own.
    Framework,
    /// Nothing that exists.
    Unknown,
}

impl Method {
    /// All methods.
    pub(crate) const ALL: [Self; 8] = [
        Self::CreateChallenge,
        Self::SendOtp,
        Self::VerifyOtp,
        Self::CancelChallenge,
        Self::GetChallenge,
        Self::GetAccount,
        Self::LockAccount,
        Self::UnlockAccount,
    ];

    /// The fully qualified name, as logs and metrics show it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CreateChallenge => "otp.v1.OtpService/CreateChallenge",
            Self::SendOtp => "otp.v1.OtpService/SendOtp",
            Self::VerifyOtp => "otp.v1.OtpService/VerifyOtp",
            Self::CancelChallenge => "otp.v1.OtpService/CancelChallenge",
            Self::GetChallenge => "otp.v1.OtpService/GetChallenge",
            Self::GetAccount => "otp.v1.OtpAdminService/GetAccount",
            Self::LockAccount => "otp.v1.OtpAdminService/LockAccount",
            Self::UnlockAccount => "otp.v1.OtpAdminService/UnlockAccount",
        }
    }

    /// Whether it belongs to `OtpAdminService`.
    pub(crate) const fn is_for_operators(self) -> bool {
        match self {
            Self::GetAccount | Self::LockAccount | Self::UnlockAccount => true,
            Self::CreateChallenge | Self::SendOtp | Self::VerifyOtp | Self::CancelChallenge | Self::GetChallenge => {
                false
            }
        }
    }
}

impl RpcTarget {
    /// What a path asks for.
    pub(crate) fn of(path: &str) -> Self {
        let name = path.strip_prefix('/').unwrap_or(path);
        if name.starts_with("grpc.health.") || name.starts_with("grpc.reflection.") {
            return Self::Framework;
        }
        let method = Method::ALL.into_iter().find(|method| method.name() == name);
        method.map_or(Self::Unknown, Self::Contract)
    }

    /// The name for logs and metrics: never what an attacker put into a path.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Contract(method) => method.name(),
            Self::Framework | Self::Unknown => "_OTHER",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_is_known() {
        let mut service = "";
        let mut count = 0;
        for line in include_str!("../../proto/otp/v1/otp.proto").lines() {
            let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
            match words.next() {
                Some("service") => service = words.next().unwrap_or_default(),
                Some("rpc") => {
                    let path = format!("/otp.v1.{service}/{}", words.next().unwrap_or_default());
                    let RpcTarget::Contract(method) = RpcTarget::of(&path) else { panic!("{path}") };
                    assert_eq!(method.is_for_operators(), service == "OtpAdminService", "{path}");
                    count += 1;
                }
                _ => {}
            }
        }
        assert_eq!(count, Method::ALL.len());
    }

    #[test]
    fn other_paths_have_no_name_of_their_own() {
        assert_eq!(RpcTarget::of("/grpc.health.v1.Health/Check"), RpcTarget::Framework);
        for path in ["", "/", "/otp.v1.OtpService/", "/otp.v1.OtpService/Nope", "/x\ny/z"] {
            assert_eq!(RpcTarget::of(path), RpcTarget::Unknown);
            assert_eq!(RpcTarget::of(path).name(), "_OTHER");
        }
    }
}
